"""Normalized Knowledge Distillation: the label weighted by the teacher, the other classes normalised on both sides."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits, check_temperature
from lightning_kd.methods.logits._classes import check_matrix, without_target
from lightning_kd.schedules import Scheduled, value_at


def nkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    gamma: float = 1.5,
    temperature: float = 1.0,
) -> Tensor:
    r"""Normalized distillation loss.

    .. math:: -\,p^t_y \log p^s_y \;-\; \gamma\,T^2 \sum_{c \ne y} \hat p^t_c \log \hat p^s_c

    :math:`p` is the softmax at temperature 1, :math:`\hat p` the softmax over the other classes at temperature ``T``.
    Both terms are cross-entropies, as published: a perfect student keeps the teacher's entropy as its loss.

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        target: class indices, ``(B,)``.
        gamma: weight of the other classes.
        temperature: softmax temperature ``T`` of the other classes (the paper's :math:`\lambda` is ``1/T``).

    Returns:
        Scalar: mean over the batch, at least float32.

    Raises:
        ValueError: if shapes differ or the temperature is not positive.

    Reference: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
    Normalized Loss and Customized Soft Labels", ICCV 2023, arXiv:2303.13005.
    """
    check_matrix(student_logits)
    check_same_logits(student_logits, teacher_logits)
    check_labels(student_logits, target)
    check_temperature(temperature)
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    label = target.unsqueeze(-1)
    target_term = -F.softmax(teacher, dim=-1).gather(-1, label) * F.log_softmax(student, dim=-1).gather(-1, label)
    others = F.log_softmax(without_target(student, target) / temperature, dim=-1)
    soft = F.softmax(without_target(teacher, target) / temperature, dim=-1)
    others_term = -(soft * others).sum(-1)
    return (target_term.squeeze(-1) + gamma * temperature**2 * others_term).mean()


class NKD(DistillationMethod):
    """:func:`nkd_loss` between student and teacher logits.

    Args:
        gamma: weight of the other classes.
        temperature: softmax temperature of the other classes.
        weight: factor in the total loss; the paper adds it to the task loss (``task_weight=1``).
    """

    citation = Citation(
        "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and "
        "Customized Soft Labels",
        "Yang et al.",
        "ICCV",
        2023,
        "2303.13005",
    )
    aliases = ("NKDLoss",)
    needs_target = True

    def __init__(self, gamma: float = 1.5, temperature: Scheduled = 1.0, weight: Weight = 1.0) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.gamma, self.temperature = gamma, temperature

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`nkd_loss`."""
        return nkd_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            exchange.labels,
            self.gamma,
            value_at(self.temperature, exchange.progress),
        )
