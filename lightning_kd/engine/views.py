"""The views of data sets that repeat their random draws, one view an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from torch.utils.data import Subset

from lightning_kd.data import ReplayableDataset
from lightning_kd.engine.attach import Patches


def follow_epochs(trainer: L.Trainer, patches: Patches) -> None:
    """Set the epoch of the training data whenever the Trainer asks for it.

    Of the first epoch of a fit, workers draw samples before any hook of the epoch has run.

    Args:
        trainer: the trainer about to fit.
        patches: undoing them ends it.
    """

    def make(original: Any) -> Any:
        def dataloader() -> Any:
            loaders = original()
            for dataset in replayable_in(loaders):
                dataset.set_epoch(_epochs_done(trainer))
            return loaders

        return dataloader

    patches.replace(trainer.fit_loop._data_source, "dataloader", make)


def _epochs_done(trainer: L.Trainer) -> int:
    """Epochs whose batches have all been processed; a checkpoint saved at the end of an epoch counts it."""
    current: Any = trainer.fit_loop.epoch_progress.current
    return int(current.processed)


def begin_epoch(trainer: L.Trainer) -> None:
    """Set the epoch of the training data."""
    for dataset in replayable_in(trainer.train_dataloader):
        dataset.set_epoch(trainer.current_epoch)


def replayable_in(loaders: Any) -> list[ReplayableDataset]:
    """The data sets of one or more dataloaders that repeat their draws; of a subset, the whole."""
    return [dataset for loader in flattened(loaders) if (dataset := _replayable(loader)) is not None]


def flattened(loaders: Any) -> list[Any]:
    """The dataloaders in a collection of them, or the only one."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return [loader for part in loaders for loader in flattened(part)]
    return list(getattr(loaders, "flattened", [loaders]))


def _replayable(loader: Any) -> ReplayableDataset | None:
    dataset = getattr(loader, "dataset", None)
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset if isinstance(dataset, ReplayableDataset) else None
