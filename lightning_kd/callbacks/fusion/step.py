"""What a fusion strategy sees: one step of the training, and the fit that the step belongs to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.engine import Engine
from lightning_kd.engine.exchange import Exchange
from lightning_kd.engine.objective import sample_losses
from lightning_kd.methods.base import DistillationMethod
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits


@dataclass(frozen=True)
class FusionFit:
    """The fit that a strategy takes part in.

    Attributes:
        trainer: the trainer.
        module: the LightningModule that the trainer drives.
        engine: the engine that adds the distillation terms.
        resumed: whether a checkpoint is going to restore the strategy's state.
    """

    trainer: L.Trainer
    module: L.LightningModule
    engine: Engine
    resumed: bool = False


@dataclass(frozen=True)
class FusionStep:
    """One call of the student's network, sample by sample.

    Attributes:
        exchange: everything about the step.
        distillation: distillation losses with gradients, ``(B,)``.
        task: cross-entropies of the student with gradients, ``(B,)``.
        labels: class indices, ``(B,)``.
        rank: number of this process among those that train together.
    """

    exchange: Exchange
    distillation: Tensor
    task: Tensor
    labels: Tensor
    rank: int = 0

    @classmethod
    def of(cls, exchange: Exchange, distillation: Tensor, rank: int = 0) -> FusionStep:
        """Compute the per-sample task losses from the captured logits and labels.

        Raises:
            ValueError: unless logits are ``(B, C)``, labels ``(B,)`` and distillation losses ``(B,)``.
        """
        logits = exchange.student.logits
        if logits.dim() != 2:
            raise ValueError(
                f"a fusion ratio weighs samples, so it needs logits of shape (B, C), got {tuple(logits.shape)}"
            )
        check_vector("the distillation losses", distillation, len(logits))
        return cls(exchange, distillation, task_losses(logits, exchange.labels), exchange.labels, rank)

    @cached_property
    def student_logits(self) -> Tensor:
        """The student's logits without gradients, at least float32, ``(B, C)``."""
        return at_least_float32(self.exchange.student.logits.detach())

    @cached_property
    def teacher_logits(self) -> Tensor:
        """The teacher's logits without gradients, ``(B, C)``; several teachers count as the mean of their predictions.

        Raises:
            ValueError: if there is no teacher, or it predicts other classes.
        """
        views = self.exchange.teachers or [self.exchange.teacher]  # the property says what is missing
        logits = average_prediction([view.logits for view in views])
        check_same_logits(self.student_logits, logits)
        return logits


def average_prediction(logits: Sequence[Tensor]) -> Tensor:
    """Logits ``(B, C)`` of one network as they are, or the log of the mean prediction of several; at least float32."""
    if len(logits) == 1:
        return at_least_float32(logits[0].detach())
    stacked = torch.stack([F.log_softmax(at_least_float32(each.detach()), dim=-1) for each in logits])
    return stacked.logsumexp(0) - math.log(len(logits))


def task_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every sample, ``(B,)``, at least float32.

    Args:
        logits: ``(B, C)``.
        labels: class indices, ``(B,)``.

    Raises:
        ValueError: unless there is one class index a sample.
    """
    check_labels(logits, labels)
    return F.cross_entropy(at_least_float32(logits), labels, reduction="none")


def distillation_losses(methods: Sequence[DistillationMethod], exchange: Exchange) -> Tensor:
    """The weighted distillation loss of every sample, ``(B,)``, as the engine hands it to a fusion ratio."""
    terms = [m.weight_at(exchange.progress) * sample_losses(m, exchange) for m in methods if m.has_per_sample]
    return torch.stack(terms).sum(0)


def check_vector(what: str, value: Tensor, samples: int) -> None:
    """Raise ``ValueError`` unless ``value`` holds one number a sample.

    ``(B, 1)`` times ``(B,)`` would silently become ``(B, B)``, and every sample would get the batch's mean ratio.
    """
    if value.shape != (samples,):
        raise ValueError(
            f"expected {what} to have one number a sample, shape ({samples},), got {tuple(value.shape)}; reduce over "
            "all dimensions but the first (for example `.flatten(1).mean(1)`, or `.squeeze(1)` for a column)"
        )
