"""The format of the MNIST family, IDX: a big-endian header of sizes, then unsigned bytes; packed by gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from kd_bench.errors import UserError

_UNSIGNED_BYTES = 0x08
_PIECE = 1 << 20


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an IDX file of unsigned bytes that is packed by gzip.

    Args:
        path: the file.
        shape: what a sample's shape must be: ``(28, 28)`` for images, ``()`` for labels.

    Returns:
        ``uint8``, ``(N, *shape)``.

    Raises:
        UserError: if the file cannot be read, is damaged or incomplete, or holds something else.
    """
    dimensions = 1 + len(shape)
    try:
        with gzip.open(path, "rb") as file:
            magic = file.read(4)
            expected = bytes([0, 0, _UNSIGNED_BYTES, dimensions])
            if magic != expected:
                raise _unusable(path, f"it begins with {magic.hex() or 'nothing'} where {expected.hex()} was expected")
            header = file.read(4 * dimensions)
            if len(header) < 4 * dimensions:
                raise _unusable(path, "it ends within its header")
            sizes = tuple(np.frombuffer(header, dtype=">u4").tolist())
            if sizes[1:] != shape:
                raise _unusable(path, f"its samples have the shape {sizes[1:]} where {shape} was expected")
            length = math.prod(sizes)
            # piece by piece, since the header may lie; to the end, where the packed stream's own checksum is verified
            content = bytearray()
            while len(content) <= length and (piece := file.read(_PIECE)):
                content += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unusable(path, f"unpacking it failed ({error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    if len(content) != length:
        found = f"only {len(content):,} bytes follow" if len(content) < length else "more follows"
        raise _unusable(path, f"its header announces {sizes[0]:,} samples, {length:,} bytes, but {found}")
    return np.frombuffer(content, dtype=np.uint8).reshape(sizes)


def _unusable(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} is not a whole IDX file of unsigned bytes: {problem}. Replace it by the original, or remove it so "
        "that another copy is looked for."
    )
