"""Files that are either there and whole, or not there at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from kd_bench.errors import UserError

MAX_JSON_BYTES = 10_000_000

M = TypeVar("M", bound=BaseModel)


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either its old or its new content, whatever happens meanwhile.

    The data goes to a temporary file in the same directory, is forced to disk, and then replaces ``path``; the
    directory entry is forced to disk as well, so that a power cut does not undo what was reported as done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    # readable by others as far as the user's umask allows, which tempfile's files are not
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


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
