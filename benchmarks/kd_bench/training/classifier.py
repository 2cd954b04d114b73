"""The student and the teacher as an ordinary LightningModule that knows nothing of distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import override

from kd_bench.recipe import Recipe
from kd_bench.training.optimizers import build_optimizer, build_schedule

VALIDATION_ACCURACY = "validation/accuracy"
TEST_ACCURACY = "test/accuracy"


class Classifier(L.LightningModule):
    """Cross-entropy training of ``network`` under ``recipe``.

    Args:
        network: images → logits.
        recipe: optimizer, schedule and label smoothing.
        num_classes: width of the logits.
        image_shape: ``(channels, height, width)``.
        deploy: from ``network`` to what is evaluated in its place.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        num_classes: int,
        image_shape: tuple[int, int, int],
        deploy: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self._deploy = deploy
        # lets methods size their connectors without touching the training data
        self.example_input_array = torch.zeros(2, *image_shape)
        self.validation_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    @override
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.network(images), labels, label_smoothing=self.recipe.label_smoothing)

    @override
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        images, labels = batch
        name, metric = (
            (VALIDATION_ACCURACY, self.validation_accuracy)
            if dataloader_idx == 0
            else (TEST_ACCURACY, self.test_accuracy)
        )
        # made for each batch, since as an attribute it would be trained and saved; its parts are in eval mode already
        network = self.network if self._deploy is None else self._deploy(self.network)
        metric.update(network(images), labels)
        self.log(name, metric, on_epoch=True, add_dataloader_idx=False)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.recipe, self.network.parameters())
        schedule = build_schedule(self.recipe, optimizer, int(self.trainer.estimated_stepping_batches))
        configured: dict[str, Any] = {"optimizer": optimizer}
        if schedule is not None:
            configured["lr_scheduler"] = schedule
        return configured  # type: ignore[return-value]  # a TypedDict to Lightning, built key by key here
