"""Take the held-out samples out of the Trainer's own training dataloader, where that is safe."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from lightning_kd.callbacks.fusion.hold_out import hold_out
from lightning_kd.data import ReplayableDataset, WithIndex
from lightning_kd.engine.attach import Patches


class TrainingSplit:
    """Shrinks the training data by the held-out samples for the length of a fit.

    Args:
        fraction: share of the samples that are held out.
        seed: seed of the split.
    """

    def __init__(self, fraction: float, seed: int) -> None:
        self.fraction, self.seed = fraction, seed
        self._patches = Patches()
        self._given: DataLoader[Any] | None = None
        self._train: DataLoader[Any] | None = None
        self._held_out: DataLoader[Any] | None = None

    def install(self, trainer: L.Trainer) -> None:
        """Let the Trainer see the smaller training set."""
        self.undo()
        self._patches.replace(trainer.fit_loop._data_source, "dataloader", self._make_dataloader)

    def undo(self) -> None:
        """Give the Trainer its training set back."""
        self._patches.undo()
        self._given = self._train = self._held_out = None

    def held_out(self, trainer: L.Trainer) -> DataLoader[Any]:
        """The held-out samples.

        Raises:
            ValueError: if the training dataloader cannot be split safely.
        """
        if self._held_out is None:
            trainer.fit_loop._data_source.dataloader()
        assert self._held_out is not None
        return self._held_out

    def _make_dataloader(self, original: Any) -> Any:
        def dataloader() -> Any:
            given = original()
            if given is not self._given or self._train is None:
                self._given = given
                self._train, self._held_out = split_loader(given, self.fraction, self.seed)
            return self._train

        return dataloader


def split_loader(loader: Any, fraction: float, seed: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Split a plain dataloader into one without the held-out samples and one of them.

    Raises:
        ValueError: if what the dataloader does cannot be repeated on fewer samples.
    """
    _refuse_unsafe(loader)
    train, held_out = hold_out(loader.dataset, fraction, seed)
    return _like(loader, train), DataLoader(held_out, batch_size=loader.batch_size, collate_fn=loader.collate_fn)


def _refuse_unsafe(loader: Any) -> None:
    reason = None
    sampler: Any = getattr(loader, "sampler", None)
    if type(loader) is not DataLoader:
        reason = f"a {type(loader).__name__} instead of a plain DataLoader"
    elif isinstance(loader.dataset, IterableDataset):
        reason = "an iterable-style data set"
    elif isinstance(loader.dataset, WithIndex | ReplayableDataset):
        name = type(loader.dataset).__name__
        reason = f"a data set wrapped in {name}, whose indices have to stay without gaps (split first, then wrap)"
    elif type(loader.batch_sampler) is not BatchSampler:
        reason = "a batch sampler of its own" if loader.batch_sampler is not None else "samples that are batches"
    elif type(sampler) is RandomSampler:
        if sampler.replacement or sampler.num_samples != len(sampler.data_source):
            reason = "a sampler that does not visit every sample once"
    elif type(sampler) is not SequentialSampler:
        reason = f"the sampler {type(sampler).__name__}"
    if reason is not None:
        raise ValueError(
            f"TrilateralGeometry cannot hold samples out by itself: the training dataloader has {reason}. Split the "
            "training data before: `train, held_out = hold_out(dataset)`; train on `train` and pass "
            "`validation=DataLoader(held_out, batch_size=...)`."
        )


def _like(loader: DataLoader[Any], dataset: Subset[Any]) -> DataLoader[Any]:
    sampler: Any = loader.sampler
    return DataLoader(
        dataset,
        batch_size=loader.batch_size,
        sampler=RandomSampler(dataset, generator=sampler.generator) if isinstance(sampler, RandomSampler) else None,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
