"""Decoupled Knowledge Distillation: the target class and the ranking of the others, weighted apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits, check_temperature
from lightning_kd.methods.logits._classes import check_matrix, without_target
from lightning_kd.schedules import Scheduled, value_at


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    r"""Decoupled distillation loss.

    .. math:: T^2\,[\alpha\,\mathrm{KL}(b^t \| b^s) + \beta\,\mathrm{KL}(\hat p^t \| \hat p^s)]

    where :math:`b = (p_y, 1 - p_y)` is the (target, non-target) mass and :math:`\hat p` the distribution over the
    non-target classes, all at temperature ``T``. With :math:`\beta = 1 - p^t_y` and ``alpha=1`` it is plain KD.

    Args:
        student_logits: student logits, ``(B, C)`` with ``C >= 3``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        target: class indices, ``(B,)``.
        alpha: weight of the target-class term.
        beta: weight of the non-target term.
        temperature: softmax temperature ``T``; the loss carries ``T**2``.

    Returns:
        Scalar: mean over the batch, at least float32.

    Raises:
        ValueError: if shapes differ, or if fewer than three classes leave no distribution over the others.

    Reference: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679. The mass of the other
    classes is computed by log-sum-exp, so that a saturated student keeps a finite loss; the authors' code takes the
    logarithm of a sum of probabilities.

    >>> import torch
    >>> logits = torch.randn(8, 10)
    >>> dkd_loss(logits, logits, torch.arange(8)).item()
    0.0
    """
    check_matrix(student_logits)
    check_same_logits(student_logits, teacher_logits)
    check_labels(student_logits, target)
    check_temperature(temperature)
    if student_logits.shape[-1] < 3:
        raise ValueError(
            f"dkd_loss needs at least 3 classes, got {student_logits.shape[-1]}: with two classes the single "
            "non-target class has no distribution to match; use kd_loss, which then equals the target-class term"
        )
    student, student_mass = _decouple(at_least_float32(student_logits) / temperature, target)
    teacher, teacher_mass = _decouple(at_least_float32(teacher_logits.detach()) / temperature, target)
    target_term = F.kl_div(student_mass, teacher_mass, reduction="none", log_target=True).sum(-1)
    others_term = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return (alpha * target_term + beta * others_term).mean() * temperature**2


def _decouple(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities among the non-target classes, ``(B, C - 1)``, and of the (target, others) mass, ``(B, 2)``."""
    others = without_target(logits, target)
    target_logit = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    mass = torch.stack([target_logit, others.logsumexp(-1)], dim=-1)
    return F.log_softmax(others, dim=-1), F.log_softmax(mass, dim=-1)


class DKD(DistillationMethod):
    """:func:`dkd_loss` between student and teacher logits.

    Args:
        alpha: weight of the target-class term.
        beta: weight of the non-target term. The paper chooses it by pair: 2 (ResNet-56 → 20, ResNet-110 → 32),
            6 (WRN-40-2 → 16-2 and 40-1, VGG pairs), 8 (ResNet-32x4 → 8x4, ShuffleNets); 0.5 on ImageNet at ``T = 1``.
        temperature: softmax temperature.
        weight: factor in the total loss. The paper's CIFAR recipe warms it up linearly over 20 epochs to 1, with
            ``task_weight=1``.
    """

    citation = Citation("Decoupled Knowledge Distillation", "Zhao et al.", "CVPR", 2022, "2203.08679")
    aliases = ("DKDLoss", "DecoupledKD")
    needs_target = True

    def __init__(
        self, alpha: float = 1.0, beta: float = 8.0, temperature: Scheduled = 4.0, weight: Weight = 1.0
    ) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`dkd_loss`."""
        return dkd_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            exchange.labels,
            self.alpha,
            self.beta,
            value_at(self.temperature, exchange.progress),
        )
