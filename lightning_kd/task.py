"""What a plain network is trained for: its loss, metrics and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import lightning as L
import torch.nn.functional as F
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError
from typing_extensions import override

from lightning_kd.engine.exchange import LogitsOf
from lightning_kd.engine.logits import find_logits
from lightning_kd.engine.target import Target, find_target

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]

_default_optimizer = partial(SGD, lr=0.05, momentum=0.9, weight_decay=5e-4)


class Classification(L.LightningModule):
    """Single-label classification of a plain network.

    Goes with it: ``DistillationModule(network, teacher, method, task=Classification(num_classes=10))``.

    Cross-entropy; logs ``train/loss``, and for validation and test ``loss``, ``acc`` (top-1), ``acc5`` (top-5, where
    there are more than five classes) and ``ece`` (expected calibration error, 15 bins) under ``val/`` and ``test/``.

    Args:
        num_classes: number of classes.
        optimizer: from parameters to an optimizer; by default SGD with learning rate 0.05, momentum 0.9 and weight
            decay 5e-4.
        scheduler: from the optimizer to a learning-rate scheduler stepped once per ``interval``.
        interval: ``"epoch"`` or ``"step"``.
        label_smoothing: smoothing of the cross-entropy's targets.

    Raises:
        ValueError: if there are fewer than two classes or the interval is unknown.

    Example::

        task = Classification(
            num_classes=100,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4),
            scheduler=lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [150, 180, 210]),
        )
    """

    def __init__(
        self,
        num_classes: int,
        optimizer: MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        *,
        interval: str = "epoch",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if interval not in ("epoch", "step"):
            raise ValueError(f'interval must be "epoch" or "step", got {interval!r}')
        self.num_classes = num_classes
        self._adopted: list[nn.Module] = []
        self._target: Target | None = None
        self._logits_of: LogitsOf = find_logits
        self._make_optimizer = optimizer or _default_optimizer
        self._make_scheduler = scheduler
        self._interval = interval
        self._label_smoothing = label_smoothing
        metrics: dict[str, Any] = {
            "acc": MulticlassAccuracy(num_classes, average="micro"),
            "ece": MulticlassCalibrationError(num_classes, n_bins=15),
        }
        if num_classes > 5:
            metrics["acc5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro")
        self.val_metrics = MetricCollection(metrics, prefix="val/")
        self.test_metrics = MetricCollection(metrics, prefix="test/").clone()

    def adopt(self, network: nn.Module, target: Target | None = None, logits: LogitsOf | None = None) -> None:
        """Work for ``network`` without owning it: its parameters stay where they are registered."""
        self._adopted = [network]  # in a list, or it would be registered a second time
        self._target = target
        self._logits_of = logits or find_logits

    @property
    def _network(self) -> nn.Module:
        return self._adopted[0]

    @override
    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Cross-entropy of the batch."""
        loss, _, _ = self._loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Update the validation metrics."""
        return self._evaluate(batch, self.val_metrics, "val/loss")

    @override
    def test_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Update the test metrics."""
        return self._evaluate(batch, self.test_metrics, "test/loss")

    @override
    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Class probabilities, ``(B, C)``."""
        return self._logits(batch).softmax(-1)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over the network's parameters, with the scheduler if there is one."""
        optimizer = self._make_optimizer(self._network.parameters())
        if self._make_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._make_scheduler(optimizer), "interval": self._interval},
        }

    def _logits(self, batch: Any) -> Tensor:
        inputs = batch[0] if isinstance(batch, list | tuple) else batch
        if isinstance(batch, dict):
            inputs = next(batch[key] for key in ("image", "images", "pixel_values", "x", "input") if key in batch)
        return self._logits_of(self._network(inputs))

    def _loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits, target = self._logits(batch), find_target(batch, self._target)
        if target is None:
            raise ValueError(
                "no label found in the batch: pass `target=` (an index, a key or a callable) to DistillationModule"
            )
        return F.cross_entropy(logits, target, label_smoothing=self._label_smoothing), logits, target

    def _evaluate(self, batch: Any, metrics: MetricCollection, name: str) -> Tensor:
        loss, logits, target = self._loss(batch)
        metrics.update(logits.detach().float(), target)
        self.log(name, loss, on_epoch=True, on_step=False, batch_size=len(target))
        self.log_dict(metrics, on_epoch=True, on_step=False, batch_size=len(target))
        return loss
