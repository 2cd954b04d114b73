"""Whether a cache will fit, before anything is written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from lightning_kd.cache.errors import TeacherCacheError

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_ADVICE = 'keep less (fewer views, dtype="float16", top_k=..., fewer taps)'


def parse_size(size: int | str) -> int:
    """Bytes of a size such as ``"20GB"`` (powers of 1000) or ``"20GiB"`` (powers of 1024).

    Args:
        size: bytes, or a number with a unit.

    Raises:
        ValueError: if it is not understood, or not positive.

    >>> parse_size("1.5 kB"), parse_size("2MiB"), parse_size(7)
    (1500, 2097152, 7)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?", str(size).strip().lower())
    if match is None or (match[3] and not match[2]) or float(match[1]) == 0:
        raise ValueError(f"budget must be a positive number of bytes or a text such as '20GB' or '8GiB', got {size!r}")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _UNITS[match[2]])


def in_words(size: float) -> str:
    """A number of bytes for people.

    >>> in_words(1_234_567)
    '1.23 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def used_bytes(directory: Path) -> int:
    """Bytes that the files in a directory take on the disk; holes take none."""
    total = 0
    for path in directory.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # the temporary file of another process
            status = path.stat()
            total += status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
    return total


def check_room(directory: Path, entries: int, entry: int, budget: int | None) -> None:
    """Raise if a full cache is larger than the budget, or than what is free on the disk.

    Args:
        directory: where it is written; it exists.
        entries: number of entries: samples times views.
        entry: bytes of one, its checksums included.
        budget: bytes allowed, or ``None``.

    Raises:
        TeacherCacheError: if it does not fit.
    """
    needed = entries * entry
    sizes = f"{entries} entries of {in_words(entry)} are {in_words(needed)}"
    if budget is not None and needed > budget:
        raise TeacherCacheError(
            f"the teacher cache would exceed its budget: {sizes}, the budget is {in_words(budget)}; raise it, or "
            f"{_ADVICE}"
        )
    free = shutil.disk_usage(directory).free
    missing = needed - used_bytes(directory)
    if missing > free:
        raise TeacherCacheError(
            f"the teacher cache would fill the disk: {sizes}, but {in_words(free)} are free at {os.fspath(directory)}; "
            f"choose another path, or {_ADVICE}"
        )
