"""Files that are either there and whole, or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from kd_bench.errors import UserError

MAX_JSON_BYTES = 10_000_000
ROOM_BYTES = 2**20
LITTER_SECONDS = 3600.0

M = TypeVar("M", bound=BaseModel)


class DiskFullError(UserError, OSError):
    """There was no space left to write a file; it is as it was before."""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that replaces ``path`` when the block ends, and is gone if it fails.

    ``path`` holds either its old or its new content, whatever happens meanwhile: the data goes to a temporary file in
    the same directory, is forced to disk, and then replaces ``path``; the directory entry is forced to disk as well, so
    that a power cut does not undo what was reported as done.

    Raises:
        DiskFullError: if there is no space left.
    """
    with _explained(path):
        yield from _replacing(path)


def _replacing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    # readable by others as far as the user's umask allows, which tempfile's files are not
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error) or isinstance(error, DiskFullError):
            raise
        raise DiskFullError(explain_full_disk(path.parent, f"; {path.name} could not be written")) from error


def explain_full_disk(directory: Path, what: str = "") -> str:
    """What is wrong, and what to do.

    Args:
        directory: where there is no space.
        what: could not be done therefore.
    """
    return (
        f"No space left on the disk of {directory.absolute()}, or your quota there is used up{what}. Nothing is "
        "half-written, and what was finished before is kept: free some space there and start the same command again."
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that a disk or a quota is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DiskFullError) or getattr(seen, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def has_room(directory: Path) -> bool:
    """Whether a file of a megabyte can be written; quotas cannot be asked for."""
    probe = directory / f".room.{secrets.token_hex(8)}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(bytes(ROOM_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return not is_disk_full(error)
    finally:
        probe.unlink(missing_ok=True)
    return True


def sweep(directory: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote, once these are an hour old."""
    oldest = time.time() - LITTER_SECONDS
    for path in directory.rglob(".*.tmp"):
        try:
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()
        except OSError:  # somebody else's, or gone by now
            continue


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either its old or its new content; see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(content)


def write_model(path: Path, model: BaseModel) -> None:
    """Write a pydantic model as indented JSON, atomically."""
    write_atomic(path, (model.model_dump_json(indent=1) + "\n").encode())


def read_model(path: Path, model: type[M]) -> M:
    """Read and validate a JSON file.

    Raises:
        UserError: if the file is missing, too large, not JSON, or does not match the schema.
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise UserError(f"{path} is too large: {size:,} bytes, at most {MAX_JSON_BYTES:,} are accepted.")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        problems = "; ".join(_describe(problem["loc"], problem["msg"]) for problem in error.errors()[:3])
        more = f" (and {error.error_count() - 3} more)" if error.error_count() > 3 else ""
        raise UserError(
            f"{path} is not a valid {model.__name__} file: {problems}{more}. It is corrupt or was not written by "
            "kd_bench; remove it and run the benchmark again."
        ) from error


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(location: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, location))}: {message}" if location else message


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
