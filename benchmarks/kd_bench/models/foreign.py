"""Telling what came instead of weights: a web page, an error message, a pointer to the real file."""

from __future__ import annotations

HEAD_BYTES = 512

_REMEDIES = {
    "an HTML page": "Open the address in a browser: it may want a login or a confirmation, or be about the file.",
    "a Git LFS pointer": "Fetch the file itself, for example with `git lfs pull`.",
    "a text or JSON message": "Open it; it probably says why the file could not be served.",
}


def foreign(head: bytes) -> str | None:
    """What a file is that does not hold weights, with a remedy, or ``None`` if it may.

    Args:
        head: the file's first :data:`HEAD_BYTES` bytes.

    >>> foreign(b"<!DOCTYPE html><html>")[:12]
    'an HTML page'
    >>> foreign(bytes([0x80, 2])) is None
    True
    """
    if not head or any(byte < 32 and byte not in b"\t\r\n" for byte in head) or head[0] == 0x80:
        return None  # every format of weights has control characters in its first bytes
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        kind = "an HTML page"
    elif text.startswith(b"version https://git-lfs"):
        kind = "a Git LFS pointer"
    else:
        kind = "a text or JSON message"
    return f"{kind}, not a checkpoint. {_REMEDIES[kind]}"
