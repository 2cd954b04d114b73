"""The arrays of an ``.npz`` file, read by hand: no pickle, no format but the one we write, bounded before unpacking."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_bench.submission.problem import RefusedError, shown

MAX_MEMBERS = 16
MAX_RATIO = 500
"""How much more an array may have than its compressed bytes; bombs start at a thousand."""

_RATIO_FREE = 500_000
"""Bytes that an array may have, however well it was compressed."""

_CENTRAL, _LOCAL, _END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
_HEADER = re.compile(
    rb"\{'descr': '([^']{1,40})', 'fortran_order': (True|False), 'shape': \(([0-9]{1,12}),(?: ([0-9]{1,12}))?\), \} *\n"
)

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, OverflowError, NotImplementedError, RuntimeError),
)
"""What the standard library raises when it reads an archive that somebody has played with."""

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(content: bytes, expected: Mapping[str, tuple[str, ...]], limit: int) -> Arrays:
    """The arrays of a file as :mod:`numpy` writes it.

    Args:
        content: of the file.
        expected: name → how its type may be written, such as ``"<f4"``.
        limit: most bytes that all of them may have.

    Raises:
        RefusedError: by the rule ``archive`` if it is another file than we write, ``size`` if it unpacks to too much.
    """
    try:
        # many more than we accept would fill the memory before they can be counted
        if content.count(_CENTRAL) > 4 * MAX_MEMBERS:
            raise RefusedError("archive", f"has more than {MAX_MEMBERS} members; expected {', '.join(expected)}")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members, expected, limit)
            _check_layout(content, members, archive)
            return {name: _array(archive, name, member, expected[name]) for name, member in _named(members).items()}
    except _BROKEN as error:
        raise RefusedError("archive", f"is no intact .npz file: {shown(error)}") from None


def _named(members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    return {member.filename.removesuffix(".npy"): member for member in members}


def _check_members(members: list[zipfile.ZipInfo], expected: Mapping[str, tuple[str, ...]], limit: int) -> None:
    names = [member.orig_filename for member in members]
    for name in names:
        if "/" in name or "\\" in name or ".." in name or "\x00" in name or ":" in name:
            raise RefusedError("archive", f"has the member {shown(name)!r}, whose name leads elsewhere")
    if sorted(names) != sorted(f"{name}.npy" for name in expected):
        raise RefusedError(
            "archive", f"has the members {shown(', '.join(sorted(names)))}; expected the arrays {', '.join(expected)}"
        )
    for member in members:
        if member.flag_bits & ~0x0802 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError("archive", f"has the member {member.filename}, encrypted or compressed unusually")
        if member.file_size > max(_RATIO_FREE, MAX_RATIO * member.compress_size):
            raise RefusedError(
                "size",
                f"{member.filename} unpacks from {member.compress_size:,} to {member.file_size:,} bytes, more than "
                f"{MAX_RATIO} times as much: a zip bomb",
            )
    total = sum(member.file_size for member in members)
    if total > limit:
        raise RefusedError("size", f"unpacks to {total:,} bytes, at most {limit:,} are accepted")


def _check_layout(content: bytes, members: list[zipfile.ZipInfo], archive: zipfile.ZipFile) -> None:
    """One member behind the other from the first byte to the directory: nothing between, before or after."""
    place = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        header = content[member.header_offset : member.header_offset + 30]
        if member.header_offset != place or len(header) < 30 or not header.startswith(_LOCAL):
            raise RefusedError("archive", f"has hidden, missing or overlapping bytes before {member.filename}")
        if header[6:8] != member.flag_bits.to_bytes(2, "little") or member.flag_bits & 0x8:
            raise RefusedError("archive", f"describes {member.filename} in two different ways")
        place += 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        place += member.compress_size
    if place != archive.start_dir or content[-22:-18] != _END or archive.comment:
        raise RefusedError("archive", "has hidden bytes behind its arrays, or a comment")


def _array(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo, kinds: tuple[str, ...]) -> npt.NDArray[Any]:
    with archive.open(member) as file:
        raw = file.read(member.file_size + 1)
    if len(raw) != member.file_size:
        raise RefusedError("archive", f"{name} has not the size that the archive declares")
    if raw[:8] != b"\x93NUMPY\x01\x00":
        raise RefusedError("archive", f"{name} is no array of the .npy format 1.0")
    start = 10 + int.from_bytes(raw[8:10], "little")
    header = _HEADER.fullmatch(raw[10:start])
    if header is None:
        raise RefusedError(
            "archive",
            f"{name} has the header {shown(raw[10:start].rstrip().decode('latin-1'))}; expected a plain vector or, for "
            "boxes, four columns",
        )
    kind, order = header[1].decode("latin-1"), header[2]
    if "O" in kind:
        raise RefusedError("archive", f"{name} holds Python objects (a pickle), never read; expected {kinds[0]}")
    if kind not in kinds or order != b"False":
        found = f"{shown(kind)} in {'Fortran' if order == b'True' else 'C'} order"
        raise RefusedError("archive", f"{name} is {found}; expected {' or '.join(kinds)} in C order")
    shape = tuple(int(length) for length in header.groups()[2:] if length is not None)
    dtype = np.dtype(kind)
    if len(raw) - start != dtype.itemsize * int(np.prod([float(length) for length in shape])):
        raise RefusedError("archive", f"{name} has the shape {shape}, but {len(raw) - start:,} bytes")
    return np.frombuffer(raw, dtype=dtype, offset=start).reshape(shape)
