"""One file of a cache: a table of checksums, then entries of a fixed size.

An entry counts as present if its checksum in the table is that of its bytes. The table is written after the entry, so
whatever is torn by a kill or a crash is a miss. Two processes may write at the same time: different entries lie in
different bytes, and equal entries hold equal bytes.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from lightning_kd.cache.errors import TeacherCacheError

_MAGIC = b"lightning_kd teacher cache 1\n"
_HEADER = 4096
_MARK = struct.Struct("<II")  # the entry's checksum, the checksum of what the teacher was given


class Shard:
    """An open shard.

    Args:
        path: its file; made, all holes, where it is missing.
        first: number of its first entry in the store.
        count: number of entries.
        size: bytes of an entry.

    Raises:
        TeacherCacheError: if the file is no shard of this store, has another length, or cannot be made.
    """

    def __init__(self, path: Path, first: int, count: int, size: int) -> None:
        self.path, self.first, self.count, self.size = path, first, count, size
        self._entries = _HEADER + -(-count * _MARK.size // _HEADER) * _HEADER
        self._length = self._entries + count * size
        if not path.exists():
            self._make()
        self._file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            self._check()
            self._map = mmap.mmap(self._file, self._length, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(self._file)
            raise
        self._bytes = memoryview(self._map)

    def read(self, slot: int) -> tuple[memoryview, int] | None:
        """An entry and the checksum of its input, or ``None`` where there is none, or not a whole one.

        Args:
            slot: number of the entry in the store.
        """
        check, given = self._mark(slot)
        if check == 0:
            return None
        start = self._entries + (slot - self.first) * self.size
        entry = self._bytes[start : start + self.size]
        return (entry, given) if _checksum(slot, given, entry) == check else None

    def marks(self) -> list[bool]:
        """For each entry whether it claims to be there; their bytes are not looked at."""
        table = self._bytes[_HEADER : _HEADER + self.count * _MARK.size]
        return [check != 0 for check, _ in _MARK.iter_unpack(table)]

    def write(self, slots: Sequence[int], entries: Sequence[memoryview], given: Sequence[int]) -> None:
        """Write entries, then their checksums.

        Args:
            slots: their numbers in the store.
            entries: their bytes.
            given: checksums of what the teacher was given.

        Raises:
            TeacherCacheError: if the disk is full, or cannot be written.
        """
        try:
            for slot, entry in zip(slots, entries, strict=True):
                _write(self._file, entry, self._entries + (slot - self.first) * self.size)
            for slot, entry, checksum in zip(slots, entries, given, strict=True):
                mark = _MARK.pack(_checksum(slot, checksum, entry), checksum)
                _write(self._file, memoryview(mark), _HEADER + (slot - self.first) * _MARK.size)
        except OSError as error:
            raise _failed(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._bytes.release()
        with contextlib.suppress(BufferError):  # somebody still holds an entry
            self._map.close()
        os.close(self._file)

    def _mark(self, slot: int) -> tuple[int, int]:
        check, given = _MARK.unpack_from(self._bytes, _HEADER + (slot - self.first) * _MARK.size)
        return int(check), int(given)

    def _check(self) -> None:
        length = os.fstat(self._file).st_size
        if length != self._length:
            what = "is truncated" if length < self._length else "has another size than it should"
            raise TeacherCacheError(
                f"the cache file {self.path} {what}: {length} bytes, expected {self._length}; delete this file, its "
                "entries are then computed again"
            )
        header = os.read(self._file, len(_MAGIC))
        if header != _MAGIC:
            raise TeacherCacheError(f"{self.path} is no file of a teacher cache; delete it, or choose another path")

    def _make(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(_MAGIC)
                file.truncate(self._length)
            publish(temporary, self.path)
        except OSError as error:
            raise _failed(self.path, error) from error
        finally:
            temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name, unless another process was faster.

    Args:
        temporary: the file, in the same directory.
        path: its name.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        if not path.exists():  # a file system without hard links
            os.replace(temporary, path)


def _checksum(slot: int, given: int, entry: memoryview) -> int:
    # with the slot, so that bytes in the wrong place do not count; 0 stands for nothing
    return zlib.crc32(entry, zlib.crc32(struct.pack("<QI", slot, given))) or 1


def _write(file: int, content: memoryview, place: int) -> None:
    while len(content):
        if hasattr(os, "pwrite"):
            written = os.pwrite(file, content, place)
        else:
            os.lseek(file, place, os.SEEK_SET)
            written = os.write(file, content)
        content, place = content[written:], place + written


def _failed(path: Path, error: OSError) -> TeacherCacheError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TeacherCacheError(
            f"the disk is full: {path} cannot be written ({error.strerror}). What has been stored so far stays valid. "
            'Make room, or keep less: fewer views, dtype="float16", top_k=..., fewer taps'
        )
    return TeacherCacheError(f"{path} cannot be written: {error.strerror or error}; choose another path for the cache")
