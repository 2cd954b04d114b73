"""Go on with an interrupted training as if nothing had happened."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
from typing_extensions import override

from kd_bench.training.checkpoints import STATE, Checkpoint
from kd_bench.training.effort import Effort
from kd_bench.training.random_state import random_state, set_random_state


class Resume(L.Callback):
    """Leaves checkpoints, and brings back what Lightning's own restoring does not.

    Everything is saved when the next epoch begins: then schedules and loggers are done with the last one. Lightning's
    progress of the loops is replaced by the numbers of epochs and steps, because it says something else in every
    version about a checkpoint that was saved there. Goes before all other callbacks, so that none has begun the epoch.

    Args:
        checkpoint: where.
        effort: the clock of the training.

    Attributes:
        restoring: whether a checkpoint is being restored, in which an error speaks against the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, effort: Effort, *, restoring: bool) -> None:
        self._checkpoint, self._effort = checkpoint, effort
        self.restoring = restoring
        self._restored: dict[str, Any] | None = None
        self._first = 0
        self._saved = time.monotonic()

    @override
    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take what :meth:`on_save_checkpoint` added."""
        self._restored = checkpoint[STATE]

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the loops to where the training was."""
        if self._restored is not None:
            self._effort.add(self._restored["seconds"], self._restored["peak_memory_mb"])
            self._first = self._restored["epochs"]
            _set_progress(trainer, self._restored["epochs"], self._restored["steps"])
        self.restoring = False

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the epochs before, or begin where they ended."""
        if self._restored is not None:
            states = self._restored["random_states"]
            set_random_state(states[trainer.global_rank], trainer.strategy.root_device)
            self._restored = None
        elif trainer.current_epoch > self._first and self._is_due(trainer):
            self._save(trainer)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the end, unless it has just been restored."""
        if trainer.current_epoch > self._first and (self._checkpoint.at_end or self._is_due(trainer)):
            self._save(trainer)

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not save."""
        del checkpoint["loops"]
        checkpoint[STATE] = {
            "owner": self._checkpoint.owner,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "seconds": self._effort.seconds,
            "peak_memory_mb": self._effort.peak_memory_mb,
            "random_states": _of_all_ranks(random_state(trainer.strategy.root_device), trainer.world_size),
        }

    def _is_due(self, trainer: L.Trainer) -> bool:
        # the clocks of the ranks may differ
        return bool(trainer.strategy.broadcast(time.monotonic() - self._saved >= self._checkpoint.seconds))

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self._checkpoint.path, weights_only=False)
        self._saved = time.monotonic()


def _set_progress(trainer: L.Trainer, epochs: int, steps: int) -> None:
    """Let the loops begin with the next epoch."""
    loop: Any = trainer.fit_loop
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        progress.ready = progress.started = progress.processed = progress.completed = epochs
    taken = loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
    taken.ready = taken.completed = steps
    loop.epoch_loop._batches_that_stepped = steps


def _of_all_ranks(value: Any, world: int) -> list[Any]:
    if world == 1:
        return [value]
    values: list[Any] = [None] * world
    torch.distributed.all_gather_object(values, value)
    return values
