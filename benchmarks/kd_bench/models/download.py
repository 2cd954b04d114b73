"""Downloading a file once: resumed where it stopped, verified, and put into the cache only when it is whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from kd_bench.errors import UserError
from kd_bench.models.foreign import HEAD_BYTES, foreign
from kd_bench.storage import file_sha256

ATTEMPTS = 4
PAUSE_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
_CHUNK = 1 << 20
_PASSING = {408, 425, 429, 500, 502, 503, 504}

T = TypeVar("T")

Advance = Callable[[int, int | None], None]
"""Told how many bytes are there, of how many (``None`` if the server does not say)."""


def default_cache_dir() -> Path:
    """Where downloads are kept: beside those of ``torch.hub``, so that ``TORCH_HOME`` moves both."""
    return Path(torch.hub.get_dir()) / "kd_bench"


def fetch(url: str, *, sha256: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Path of the file at ``url``, downloaded unless the cache has it.

    An interrupted download goes on where it stopped. Processes that want the same file wait for one to fetch it.

    Args:
        url: ``http`` or ``https`` address.
        sha256: the file's hash, or at least its first eight digits; a cached file with another hash is fetched anew.
        cache_dir: where to keep it; :func:`default_cache_dir` by default.

    Raises:
        UserError: if the address cannot be reached or serves something else, the hash differs, or the disk is full.
    """
    expected = normal_sha256(sha256)
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"cannot download {url}: expected an address with http:// or https://, or a local path.")
    folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    target = folder / _file_name(url)
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.exists() and (expected is None or file_sha256(target).startswith(expected)):
                return target
            _download(url, target, expected)
    return target


def normal_sha256(sha256: str | None) -> str | None:
    """The hash in lower case.

    Raises:
        UserError: if it is not 8 to 64 hexadecimal digits.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise UserError(f"sha256 must be the file's 64 hexadecimal digits, or at least the first 8, got {sha256!r}.")
    return sha256 and sha256.lower()


def _file_name(url: str) -> str:
    """The address's last part, made unique: the public teachers are all called ``ckpt_epoch_240.pth``."""
    base = re.sub(r"[^\w.-]", "_", unquote(urlsplit(url).path.rpartition("/")[2])) or "checkpoint"
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{base[-100:]}"


def _download(url: str, target: Path, expected: str | None) -> None:
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    with _progress(url, target) as advance:
        _transfer(url, part, advance)
        if expected is not None and resumed and not file_sha256(part).startswith(expected):
            _discard(part)  # what was there before may be of another version of the file
            _transfer(url, part, advance)
    with part.open("rb") as file:
        problem = foreign(file.read(HEAD_BYTES))
    found = file_sha256(part)
    if problem is None and expected is not None and not found.startswith(expected):
        problem = (
            f"a file with the wrong checksum: expected sha256 {expected}, found {found}. It was not kept. Either the "
            "download was damaged (try again) or the file has changed (check its source, and update the sha256)."
        )
    if problem is not None:
        _discard(part)
        raise UserError(f"{url} gave {problem}")
    os.replace(part, target)
    _discard(part)


def _transfer(url: str, part: Path, advance: Advance) -> None:
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            _receive(url, part, advance)
            return
        except HTTPError as error:
            if error.code not in _PASSING or attempt == ATTEMPTS - 1:
                raise UserError(f"cannot download {url}: the server answers {error.code} {error.reason}.") from error
        except (_NetworkError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS - 1:
                have = part.stat().st_size if part.exists() else 0
                raise UserError(
                    f"cannot download {url}: {error} ({ATTEMPTS} attempts). The {have:,} bytes received are kept, and "
                    "the next call goes on from there. Offline, give the path of a local copy instead."
                ) from error


def _receive(url: str, part: Path, advance: Advance) -> None:
    """Append to ``part`` what it lacks."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "kd_bench", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if _validator(part).exists():
            headers["If-Range"] = _validator(part).read_text(encoding="latin-1")
    try:
        response: http.client.HTTPResponse = _network(
            lambda: urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
        )
    except HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # nothing is lacking
        _discard(part)
        raise _NetworkError("the file has become shorter; it is fetched from its beginning") from error
    with response:
        if response.headers.get_content_type() == "text/html":
            raise UserError(f"{url} gave {foreign(b'<')}")
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                _discard(part)
                raise _NetworkError("the server sent another range than asked for")
        else:
            have = 0
            _keep_validator(part, response.headers.get("ETag"), response.headers.get("Last-Modified"))
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            while chunk := _network(lambda: response.read(_CHUNK)):
                file.write(chunk)
                have += len(chunk)
                advance(have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise _NetworkError(f"the connection ended after {have:,} of {total:,} bytes")


class _NetworkError(Exception):
    """A failure of the connection, which may pass; told apart from those of the disk, which are OSErrors as well."""


def _network(call: Callable[[], T]) -> T:
    try:
        return call()
    except HTTPError:
        raise
    except OSError as error:
        raise _NetworkError(str(getattr(error, "reason", None) or error)) from error


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _keep_validator(part: Path, etag: str | None, modified: str | None) -> None:
    """Remember which version of the file was begun, so that another is not appended to it."""
    strong = etag if etag and not etag.startswith("W/") else modified
    if strong:
        _validator(part).write_text(strong, encoding="latin-1")
    else:
        _validator(part).unlink(missing_ok=True)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot keep downloads in {folder}: {error.strerror or error}. Make room there, or choose another "
            "`cache_dir` (or set TORCH_HOME)."
        ) from error


@contextmanager
def _progress(url: str, target: Path) -> Iterator[Advance]:
    console = Console(stderr=True, highlight=False)
    console.print(f"downloading {url} to {target.parent}", markup=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(target.name.partition("-")[2], total=None)
        yield lambda have, total: progress.update(task, completed=have, total=total)
