"""ImageNet as shards: tar files in the layout of WebDataset, of which single images are read wherever they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kd_bench.data.encoded import EncodedImages, check_keys
from kd_bench.data.shard_index import read_index
from kd_bench.errors import UserError

_MOST_OPEN = 256


def shard_path(folder: Path, split: str, number: int) -> Path:
    """The file of a shard.

    >>> shard_path(Path("shards"), "train", 7).as_posix()
    'shards/imagenet-train-000007.tar'
    """
    return folder / f"imagenet-{split}-{number:06d}.tar"


def find_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order."""
    return sorted(folder.glob(f"imagenet-{split}-[0-9]*.tar"))


class ShardImages(EncodedImages):
    """One split in shards; order and content are those of the folder that was packed.

    Args:
        shards: the files.

    Raises:
        UserError: if one is incomplete, or they do not belong together.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        indices = [read_index(shard) for shard in shards]
        keys = [key for index in indices for key in index.keys]
        where = f"the shards in {shards[0].parent}"
        check_keys(keys, where)
        super().__init__(keys)
        labels = np.array([label for index in indices for label in index.labels])[self.order]
        if wrong := np.flatnonzero(labels != self.labels.numpy()).tolist():
            key, found, expected = self.keys[wrong[0]].decode(), labels[wrong[0]], int(self.labels[wrong[0]])
            raise UserError(
                f"{where} label {key} as class {found}; expected {expected}, the position of its folder among the "
                f"{len(self.wnids)} classes found. Either shards are missing or they were packed otherwise; pack them "
                "anew by `lightning-kd bench shards`."
            )
        self._shards = tuple(shards)
        self._shard = np.repeat(np.arange(len(indices)), [len(index.keys) for index in indices])[self.order]
        self._offset = np.array([offset for index in indices for offset in index.offsets])[self.order]
        self._length = np.array([length for index in indices for length in index.lengths])[self.order]
        self._open: dict[int, BinaryIO] = {}
        self._process = os.getpid()

    def read(self, index: int) -> bytes:
        """The encoded image."""
        file = self._file(int(self._shard[index]))
        file.seek(int(self._offset[index]))
        return file.read(int(self._length[index]))

    def name(self, index: int) -> str:
        """Shard and key of an image."""
        return f"{self.keys[index].decode()} in {self._shards[self._shard[index]]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _file(self, shard: int) -> BinaryIO:
        # a forked process shares the position in its files with its parent, so it opens its own
        if self._process != os.getpid() or len(self._open) >= _MOST_OPEN:
            self._open, self._process = {}, os.getpid()
        if shard not in self._open:
            self._open[shard] = self._shards[shard].open("rb")
        return self._open[shard]
