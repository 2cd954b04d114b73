"""Weighted Soft Label Distillation: trust the soft label less where the student already beats the teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits, check_temperature
from lightning_kd.methods.logits._classes import check_matrix
from lightning_kd.schedules import Scheduled, value_at

_EPS = 1e-7


def wsld_loss(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float = 2.0) -> Tensor:
    r"""Weighted soft label loss.

    .. math:: T^2\,\Big(1 - \exp\big(-\tfrac{\mathrm{CE}(z^s, y)}{\mathrm{CE}(z^t, y)}\big)\Big)\,
        \mathrm{KL}\big(\mathrm{softmax}(z^t/T)\,\|\,\mathrm{softmax}(z^s/T)\big)

    The weight of a sample is a constant to the gradient. The authors' code has the soft cross-entropy in the place of
    the divergence; the gradient is the same.

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        target: class indices, ``(B,)``.
        temperature: softmax temperature ``T``; the loss carries ``T**2``. The weights use temperature 1.

    Returns:
        Scalar: mean over the batch, at least float32.

    Raises:
        ValueError: if shapes differ or the temperature is not positive.

    Reference: Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective",
    ICLR 2021, arXiv:2102.00650.
    """
    check_matrix(student_logits)
    check_same_logits(student_logits, teacher_logits)
    check_labels(student_logits, target)
    check_temperature(temperature)
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    student_error = F.cross_entropy(student.detach(), target, reduction="none")
    teacher_error = F.cross_entropy(teacher, target, reduction="none")
    weight = -torch.expm1(-student_error / (teacher_error + _EPS))
    return (weight * divergence).mean() * temperature**2


class WSLD(DistillationMethod):
    """:func:`wsld_loss` between student and teacher logits.

    Args:
        temperature: softmax temperature; 2 in the authors' ImageNet code, 4 on CIFAR-100 in later comparisons.
        weight: factor in the total loss, with ``task_weight=1``; 2.5 and 2.25, respectively.
    """

    citation = Citation(
        "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective",
        "Zhou et al.",
        "ICLR",
        2021,
        "2102.00650",
    )
    aliases = ("WSL", "WSLDLoss")
    needs_target = True

    def __init__(self, temperature: Scheduled = 2.0, weight: Weight = 2.5) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`wsld_loss`."""
        return wsld_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            exchange.labels,
            value_at(self.temperature, exchange.progress),
        )
