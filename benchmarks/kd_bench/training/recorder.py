"""What a training leaves behind, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from kd_bench.results import Best, Curve, DetectionCurve
from kd_bench.training.learner import TEST, VALIDATION, Learner

OnEpoch = Callable[[int, int], None]
"""Called after every epoch with the number of epochs done and planned."""

LogEpoch = Callable[[int, Mapping[str, float]], None]
"""Called after every epoch with its number, from 0, and its numbers."""

_TERMS = "kd/"


class DivergedError(RuntimeError):
    """The training loss stopped being a number."""


class Recorder(L.Callback):
    """Keeps the total training loss and the scores of every epoch; goes on where a checkpoint ends.

    Args:
        on_epoch: called after every epoch.
        log: called with the numbers of every epoch, among them the means of the distillation's terms.

    Raises:
        DivergedError: from the epoch whose mean loss is not finite.
    """

    def __init__(self, on_epoch: OnEpoch | None = None, log: LogEpoch | None = None) -> None:
        self._on_epoch, self._log = on_epoch, log
        self._losses: list[Tensor] = []
        self._terms: dict[str, list[Tensor]] = {}
        self._train_loss: list[float] = []
        self._validation: list[float] = []
        self._test: list[float] = []

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell how much was done before."""
        if self._train_loss and self._on_epoch is not None:
            self._on_epoch(len(self._train_loss), trainer.max_epochs or 0)

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        self._losses.append(loss.detach())
        # reading the metrics takes a while, so not again where the first batch had no terms
        if self._log is not None and (batch_idx == 0 or self._terms):
            for name, value in trainer.callback_metrics.items():
                if name.startswith(_TERMS):
                    self._terms.setdefault(name, []).append(value)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = _mean(self._losses, trainer)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training loss was {loss} in epoch {trainer.current_epoch}; lower the method's weight or the "
                "learning rate"
            )
        self._train_loss.append(loss)
        assert isinstance(pl_module, Learner)
        sizes = [len(loader.dataset) for loader in trainer.val_dataloaders or ()]
        scores = {}
        for split, kept, position in ((VALIDATION, self._validation, 0), (TEST, self._test, -1)):
            name = split + pl_module.score
            if name in trainer.callback_metrics:
                kept.append(pl_module.exact(trainer.callback_metrics[name], sizes[position]))
                scores[name] = kept[-1]
        if self._log is not None:
            self._log(trainer.current_epoch, self._numbers(trainer, scores))
        if self._on_epoch is not None:
            self._on_epoch(len(self._train_loss), trainer.max_epochs or 0)

    def _numbers(self, trainer: L.Trainer, scores: Mapping[str, float]) -> dict[str, float]:
        numbers = {"train/loss": self._train_loss[-1], "learning_rate": trainer.optimizers[0].param_groups[0]["lr"]}
        numbers |= scores
        # those of the epoch as a whole, such as the distribution of a fusion's ratios
        numbers |= {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(_TERMS)}
        numbers |= {name: _mean(values, trainer) for name, values in self._terms.items()}
        return numbers

    @override
    def state_dict(self) -> dict[str, Any]:
        """The epochs so far."""
        return {"train_loss": self._train_loss, "validation": self._validation, "test": self._test}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._train_loss, self._validation = list(state_dict["train_loss"]), list(state_dict["validation"])
        self._test = list(state_dict["test"])

    @property
    def curve(self) -> Curve:
        """Of a classifier: validation accuracy, if there is a validation split, and training loss of every epoch."""
        return Curve(validation_accuracy=tuple(self._validation) or None, train_loss=tuple(self._train_loss))

    @property
    def precision_curve(self) -> DetectionCurve:
        """Of a detector: validation AP, if there is a validation split, and training loss of every epoch."""
        return DetectionCurve(validation_ap=tuple(self._validation) or None, train_loss=tuple(self._train_loss))

    @property
    def best(self) -> Best:
        """Of a classifier: the first epoch with the highest test accuracy."""
        epoch = max(range(len(self._test)), key=self._test.__getitem__)
        return Best(accuracy=self._test[epoch], epoch=epoch)


def _mean(values: list[Tensor], trainer: L.Trainer) -> float:
    """Mean over the batches of an epoch, on all devices; empties the list."""
    mean = torch.stack(values).double().mean()
    values.clear()
    return float(trainer.strategy.reduce(mean, reduce_op="mean")) if trainer.world_size > 1 else float(mean)
