"""Whole batches from tensors in memory, each determined by seed, epoch and position alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kd_bench.data.workers import start_method
from kd_bench.errors import UserError
from lightning_kd.callbacks import hold_out
from lightning_kd.data import Indexed

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images ``(B, C, H, W)`` and a source of randomness → images of the same shape."""


@dataclass(frozen=True)
class Draw:
    """Which samples make a batch, and what its augmentation is drawn from.

    Attributes:
        indices: positions of the samples, those of all ranks.
        seed: of what is drawn for the batch as a whole.
        epoch: of what is drawn for one sample, together with the sample.
        share: beginning and end of what this rank gets of the batch; ``None`` for all of it.
    """

    indices: Tensor
    seed: int
    epoch: int = 0
    share: tuple[int, int] | None = None

    @property
    def own(self) -> slice:
        """What this rank gets of the batch."""
        return slice(*self.share) if self.share else slice(None)

    def __reduce__(self) -> tuple[Any, ...]:
        # worker processes would get a tensor through shared memory, together with the order of the whole epoch
        return _draw, (self.indices.numpy(), self.seed, self.epoch, self.share)


def _draw(indices: np.ndarray, *rest: Any) -> Draw:
    return Draw(torch.from_numpy(indices), *rest)


class TensorBatches(Dataset[Any]):
    """Images and labels in memory that are indexed by batch.

    Args:
        images: ``(N, C, H, W)``.
        labels: ``(N,)``.
        augment: applied to training batches.
        prepare: applied to all batches, after the augmentation.
        indexed: whether batches come with the positions of their samples, as :class:`~lightning_kd.data.Indexed`.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        augment: Augment | None = None,
        *,
        prepare: Callable[[Tensor], Tensor] | None = None,
        indexed: bool = False,
    ) -> None:
        self.images, self.labels, self.augment, self.prepare, self.indexed = images, labels, augment, prepare, indexed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Draw | int) -> tuple[Tensor, Tensor] | Indexed:
        """A batch; with an integer a single sample, without augmentation."""
        if not isinstance(key, Draw):
            image = self.images[key]
            return image if self.prepare is None else self.prepare(image[None])[0], self.labels[key]
        images = self.images[key.indices]
        if self.augment is not None:
            images = self.augment(images, torch.Generator().manual_seed(key.seed))
        images, indices = images[key.own], key.indices[key.own]
        if self.prepare is not None:
            images = self.prepare(images)
        batch = images, self.labels[indices]
        return Indexed(batch, indices) if self.indexed else batch

    def split(self, fraction: float, seed: int) -> tuple[TensorBatches, TensorBatches]:
        """Split by class, without a common sample, into what is trained on and what is held out; the latter as it is.

        Args:
            fraction: share of the samples that is held out.
            seed: seed of the split.
        """
        train, held_out = (torch.tensor(part.indices) for part in hold_out(self, fraction, seed))
        return (
            TensorBatches(
                self.images[train], self.labels[train], self.augment, prepare=self.prepare, indexed=self.indexed
            ),
            TensorBatches(self.images[held_out], self.labels[held_out], prepare=self.prepare),
        )


class ShuffledDraws(Sampler[Draw]):
    """Batches in a random order that depends on ``seed`` and the epoch only.

    The Trainer announces the epoch through :meth:`set_epoch`.

    Args:
        size: number of samples.
        batch_size: samples in a batch, of all ranks together.
        seed: determines order and augmentation.
        keep_last: whether a last, incomplete batch is kept.
    """

    def __init__(self, size: int, batch_size: int, seed: int, *, keep_last: bool = False) -> None:
        if batch_size > size and not keep_last:
            raise ValueError(f"batch_size {batch_size} exceeds the {size} training samples; no batch would be complete")
        self.size, self.batch_size, self.seed, self.keep_last, self.epoch = size, batch_size, seed, keep_last, 0
        self.rank, self.world = 0, 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def set_ranks(self, rank: int, world: int) -> None:
        """Draw the same batches, of which this rank gets the ``rank``-th of ``world`` equal parts.

        Raises:
            UserError: if a batch cannot be divided equally.
        """
        check_divisible(self.batch_size, world, "batch")
        if self.keep_last:
            check_divisible(self.size % self.batch_size, world, "last, incomplete batch")
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return -(-self.size // self.batch_size) if self.keep_last else self.size // self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        seeds = np.random.SeedSequence([self.seed, self.epoch])
        order_seed, *batch_seeds = seeds.generate_state(1 + len(self)).tolist()
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(order_seed))
        for batch, seed in enumerate(batch_seeds):
            indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            each = len(indices) // self.world
            share = (self.rank * each, (self.rank + 1) * each) if self.world > 1 else None
            yield Draw(indices, seed, self.epoch, share)


class OrderedDraws(Sampler[Draw]):
    """Every sample once, in order."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size
        self.start, self.stop = 0, size

    def set_ranks(self, rank: int, world: int) -> None:
        """Draw the ``rank``-th of ``world`` parts, whose sizes differ by at most one.

        Raises:
            UserError: if a rank would get nothing.
        """
        if self.size < world:
            raise UserError(f"{self.size} samples cannot be evaluated by {world} devices; use at most {self.size}")
        self.start, self.stop = (self.size * part // world for part in (rank, rank + 1))

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // self.batch_size)

    def __iter__(self) -> Iterator[Draw]:
        for start in range(self.start, self.stop, self.batch_size):
            yield Draw(torch.arange(start, min(start + self.batch_size, self.stop)), 0)


def check_divisible(batch_size: int, world: int, what: str) -> None:
    """Refuse a batch that cannot be divided equally among the ranks.

    Raises:
        UserError: if it cannot.
    """
    if batch_size % world:
        raise UserError(
            f"the {what} of {batch_size} samples cannot be divided equally among {world} devices, and a recipe holds "
            f"for any number of them only if it can; use a number of devices that divides {batch_size}"
        )


def batch_loader(dataset: TensorBatches, draws: Sampler[Draw]) -> DataLoader[Any]:
    """A DataLoader without collation: the data set returns whole batches."""
    return DataLoader(dataset, batch_size=None, sampler=draws)


def worker_loader(dataset: Dataset[Any], draws: Sampler[Draw], workers: int) -> DataLoader[Any]:
    """A DataLoader without collation, whose batches may be made by other processes.

    Args:
        dataset: returns whole batches.
        draws: which.
        workers: number of processes; 0 for none but this one.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=draws,
        num_workers=workers,
        multiprocessing_context=start_method(workers),
        persistent_workers=workers > 0,
        pin_memory=workers > 0 and torch.cuda.is_available(),
        # otherwise a DataLoader draws from the global random state, and how often depends on the number of workers
        generator=torch.Generator(),
    )
