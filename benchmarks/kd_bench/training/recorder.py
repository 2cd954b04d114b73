"""What a training leaves behind, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from kd_bench.results import Best, Curve
from kd_bench.training.classifier import TEST_ACCURACY, VALIDATION_ACCURACY

OnEpoch = Callable[[int, int], None]
"""Called after every epoch with the number of epochs done and planned."""


class DivergedError(RuntimeError):
    """The training loss stopped being a number."""


class Recorder(L.Callback):
    """Keeps the total training loss and the accuracies of every epoch.

    Args:
        on_epoch: called after every epoch.

    Raises:
        DivergedError: from the epoch whose mean loss is not finite.
    """

    def __init__(self, on_epoch: OnEpoch | None = None) -> None:
        self._on_epoch = on_epoch
        self._losses: list[Tensor] = []
        self._train_loss: list[float] = []
        self._validation: list[float] = []
        self._test: list[float] = []

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        self._losses.append(loss.detach())

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = float(torch.stack(self._losses).double().mean())
        self._losses.clear()
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training loss was {loss} in epoch {trainer.current_epoch}; lower the method's weight or the "
                "learning rate"
            )
        self._train_loss.append(loss)
        validation_size, test_size = (len(loader.dataset) for loader in trainer.val_dataloaders or ())
        self._validation.append(_exact(trainer.callback_metrics[VALIDATION_ACCURACY], validation_size))
        self._test.append(_exact(trainer.callback_metrics[TEST_ACCURACY], test_size))
        if self._on_epoch is not None:
            self._on_epoch(len(self._train_loss), trainer.max_epochs or 0)

    @property
    def curve(self) -> Curve:
        """Validation accuracy and training loss of every epoch."""
        return Curve(validation_accuracy=tuple(self._validation), train_loss=tuple(self._train_loss))

    @property
    def best(self) -> Best:
        """The first epoch with the highest test accuracy."""
        epoch = max(range(len(self._test)), key=self._test.__getitem__)
        return Best(accuracy=self._test[epoch], epoch=epoch)


def _exact(accuracy: Tensor, size: int) -> float:
    """Undo the metric's single precision: an accuracy is a count over the size of the split."""
    return round(float(accuracy) * size) / size
