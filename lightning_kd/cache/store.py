"""The entries of one teacher: shards in a directory, and a readable description of what they are."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_kd.cache.budget import check_room
from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.layout import Field, Layout
from lightning_kd.cache.shard import Shard, publish

SHARD_BYTES = 64 * 2**20
"""Least size of a shard; there are at most :data:`MOST_SHARDS`, so those of large caches are larger."""

MOST_SHARDS = 256
_MARK_BYTES = 8
_META = "meta.json"


class Store:
    """Entries of a fixed size, numbered from 0.

    Args:
        directory: where its files are.
        layout: the bytes of an entry.
        count: number of entries.
    """

    def __init__(self, directory: Path, layout: Layout, count: int) -> None:
        self.directory, self.layout, self.count = directory, layout, count
        largest = max(SHARD_BYTES, -(-count * layout.size // MOST_SHARDS))
        self._per_shard = max(1, largest // max(layout.size, 1))
        self._shards: dict[int, Shard] = {}

    @classmethod
    def open(cls, directory: Path) -> Store | None:
        """The store in a directory, or ``None`` if nothing was written there.

        Raises:
            TeacherCacheError: if its description cannot be read.
        """
        meta = read_meta(directory)
        if meta is None:
            return None
        try:
            return cls(directory, Layout([Field.from_json(field) for field in meta["fields"]]), int(meta["entries"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TeacherCacheError(f"{directory / _META} is damaged ({error}); delete {directory}") from error

    @classmethod
    def create(
        cls, directory: Path, layout: Layout, count: int, key: Mapping[str, Any], budget: int | None = None
    ) -> Store:
        """Make a store, if it will fit; where another process has made it meanwhile, open it.

        Args:
            directory: where; made if missing.
            layout: the bytes of an entry.
            count: number of entries.
            key: what the entries are, for people and for comparison.
            budget: bytes allowed, or ``None``.

        Raises:
            TeacherCacheError: if it does not fit, or another process is writing entries of another shape.
        """
        directory.mkdir(parents=True, exist_ok=True)
        check_room(directory, count, layout.size + _MARK_BYTES, budget)
        fields = [field.to_json() for field in layout.fields]
        meta = {"format": 1, "entries": count, "entry_bytes": layout.size, "fields": fields, "key": dict(key)}
        temporary = directory / f".{_META}.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
            publish(temporary, directory / _META)
        finally:
            temporary.unlink(missing_ok=True)
        store = cls.open(directory)
        assert store is not None
        if store.layout.fields != layout.fields or store.count != count:
            raise TeacherCacheError(
                f"{directory} holds entries {store.layout.fields}, but the teacher now gives {layout.fields}; delete it"
            )
        return store

    def read(self, slots: Sequence[int]) -> tuple[Tensor, list[int]] | None:
        """Entries and the checksums of their inputs, or ``None`` if one is missing.

        Args:
            slots: numbers of entries.

        Returns:
            Bytes ``(B, size)`` and one checksum an entry.
        """
        size = self.layout.size
        content = bytearray(len(slots) * size)
        given = []
        for position, slot in enumerate(slots):
            found = self._shard(slot).read(slot)
            if found is None:
                return None
            content[position * size : (position + 1) * size] = found[0]
            given.append(found[1])
        return torch.frombuffer(content, dtype=torch.uint8).view(len(slots), size), given

    def given(self, slots: Sequence[int]) -> list[int | None]:
        """The checksums of the inputs of entries, ``None`` for those that are missing."""
        found = (self._shard(slot).read(slot) for slot in slots)
        return [None if entry is None else entry[1] for entry in found]

    def write(self, slots: Sequence[int], rows: Tensor, given: Sequence[int]) -> None:
        """Write entries.

        Args:
            slots: their numbers.
            rows: their bytes, ``(B, size)``.
            given: checksums of what the teacher was given.

        Raises:
            TeacherCacheError: if the disk is full, or cannot be written.
        """
        content = memoryview(rows.contiguous().numpy().data).cast("B")
        size = self.layout.size
        by_shard: dict[int, list[int]] = defaultdict(list)
        for position, slot in enumerate(slots):
            by_shard[slot // self._per_shard].append(position)
        for positions in by_shard.values():
            self._shard(slots[positions[0]]).write(
                [slots[position] for position in positions],
                [content[position * size : (position + 1) * size] for position in positions],
                [given[position] for position in positions],
            )

    def present(self) -> int:
        """Number of entries that have been written."""
        firsts = range(0, self.count, self._per_shard)
        existing = [first for first in firsts if self._path(first // self._per_shard).exists()]
        opened = set(self._shards)
        total = sum(sum(self._shard(first).marks()) for first in existing)
        for number in set(self._shards) - opened:
            self._shards.pop(number).close()
        return total

    def close(self) -> None:
        """Close the files."""
        while self._shards:
            self._shards.popitem()[1].close()

    def _shard(self, slot: int) -> Shard:
        number = slot // self._per_shard
        if number not in self._shards:
            first = number * self._per_shard
            count = min(self._per_shard, self.count - first)
            self._shards[number] = Shard(self._path(number), first, count, self.layout.size)
        return self._shards[number]

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:05d}.shard"


def read_meta(directory: Path) -> dict[str, Any] | None:
    """The description of the store in a directory, or ``None`` if there is none.

    Raises:
        TeacherCacheError: if it cannot be read.
    """
    path = directory / _META
    if not path.exists():
        return None
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(meta, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise TeacherCacheError(f"{path} is damaged ({error}); delete {directory}") from error
    return meta
