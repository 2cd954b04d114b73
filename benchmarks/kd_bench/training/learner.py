"""What the LightningModules that the benchmark trains have in common; none of them knows of distillation."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from typing_extensions import override

from kd_bench.recipe import Recipe
from kd_bench.training.optimizers import biases_of, build_optimizer, build_schedule

VALIDATION, TEST = "validation/", "test/"


class Learner(L.LightningModule):
    """A network under a recipe.

    Attributes:
        score: what the headline is called in logs, after ``validation/`` and ``test/``.
        network: what is trained.
        recipe: optimizer and schedule.
    """

    score: ClassVar[str]
    network: nn.Module
    recipe: Recipe

    def exact(self, score: Tensor, size: int) -> float:
        """A logged score of a split with ``size`` samples, without the metric's rounding where that can be undone."""
        return float(score)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.recipe, self.network.parameters(), biases_of(self.network))
        schedule = build_schedule(self.recipe, optimizer, int(self.trainer.estimated_stepping_batches))
        configured: dict[str, Any] = {"optimizer": optimizer}
        if schedule is not None:
            configured["lr_scheduler"] = schedule
        return configured  # type: ignore[return-value]  # a TypedDict to Lightning, built key by key here
