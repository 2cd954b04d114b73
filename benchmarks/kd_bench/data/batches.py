"""Whole batches from tensors in memory, each determined by seed, epoch and position alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_kd.callbacks import hold_out
from lightning_kd.data import Indexed

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images ``(B, C, H, W)`` and a source of randomness → images of the same shape."""


@dataclass(frozen=True)
class Draw:
    """Which samples make a batch, and the seed of their augmentation."""

    indices: Tensor
    seed: int


class TensorBatches(Dataset[Any]):
    """Images and labels in memory that are indexed by batch.

    Args:
        images: ``(N, C, H, W)``.
        labels: ``(N,)``.
        augment: applied to training batches.
        indexed: whether batches come with the positions of their samples, as :class:`~lightning_kd.data.Indexed`.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, augment: Augment | None = None, *, indexed: bool = False
    ) -> None:
        self.images, self.labels, self.augment, self.indexed = images, labels, augment, indexed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Draw | int) -> tuple[Tensor, Tensor] | Indexed:
        """A batch; with an integer a single sample, as it is."""
        if not isinstance(key, Draw):
            return self.images[key], self.labels[key]
        images = self.images[key.indices]
        if self.augment is not None:
            images = self.augment(images, torch.Generator().manual_seed(key.seed))
        batch = images, self.labels[key.indices]
        return Indexed(batch, key.indices) if self.indexed else batch

    def split(self, fraction: float, seed: int) -> tuple[TensorBatches, TensorBatches]:
        """Split by class, without a common sample, into what is trained on and what is held out; the latter as it is.

        Args:
            fraction: share of the samples that is held out.
            seed: seed of the split.
        """
        train, held_out = (torch.tensor(part.indices) for part in hold_out(self, fraction, seed))
        return (
            TensorBatches(self.images[train], self.labels[train], self.augment, indexed=self.indexed),
            TensorBatches(self.images[held_out], self.labels[held_out]),
        )


class ShuffledDraws(Sampler[Draw]):
    """Complete batches in a random order that depends on ``seed`` and the epoch only.

    The Trainer announces the epoch through :meth:`set_epoch`.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if batch_size > size:
            raise ValueError(f"batch_size {batch_size} exceeds the {size} training samples; no batch would be complete")
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        seeds = np.random.SeedSequence([self.seed, self.epoch])
        order_seed, *batch_seeds = seeds.generate_state(1 + len(self)).tolist()
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(order_seed))
        for batch, seed in enumerate(batch_seeds):
            yield Draw(order[batch * self.batch_size : (batch + 1) * self.batch_size], seed)


class OrderedDraws(Sampler[Draw]):
    """Every sample once, in order."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Draw]:
        for start in range(0, self.size, self.batch_size):
            yield Draw(torch.arange(start, min(start + self.batch_size, self.size)), 0)


def batch_loader(dataset: TensorBatches, draws: Sampler[Draw]) -> DataLoader[Any]:
    """A DataLoader without collation: the data set returns whole batches."""
    return DataLoader(dataset, batch_size=None, sampler=draws)
