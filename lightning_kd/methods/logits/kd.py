"""Knowledge distillation: match the teacher's softened distribution over the classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature
from lightning_kd.schedules import Scheduled, value_at


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Distillation loss of Hinton et al.

    .. math:: T^2\,\mathrm{KL}\big(\mathrm{softmax}(z^t/T)\,\|\,\mathrm{softmax}(z^s/T)\big)

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        temperature: softmax temperature ``T``; the loss carries ``T**2``.

    Returns:
        Scalar: sum over classes, mean over the batch, at least float32.

    Raises:
        ValueError: if the shapes differ or the temperature is not positive.

    Reference: Hinton et al., "Distilling the Knowledge in a Neural Network", NIPS workshop 2014, arXiv:1503.02531.

    >>> import torch
    >>> logits = torch.randn(8, 10)
    >>> kd_loss(logits, logits).item()
    0.0
    """
    check_same_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    return _divergence(student_logits, teacher_logits, temperature).mean() * temperature**2


def _divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


class KD(DistillationMethod):
    """:func:`kd_loss` between student and teacher logits.

    Args:
        temperature: softmax temperature.
        weight: factor in the total loss. The usual CIFAR recipe is ``weight=0.9`` with ``task_weight=0.1``.
    """

    citation = Citation(
        "Distilling the Knowledge in a Neural Network", "Hinton et al.", "NIPS workshop", 2014, "1503.02531"
    )
    aliases = ("HintonKD", "SoftTarget", "KDLoss")

    def __init__(self, temperature: Scheduled = 4.0, weight: Weight = 1.0) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`kd_loss`."""
        return kd_loss(exchange.student.logits, exchange.teacher.logits, value_at(self.temperature, exchange.progress))

    def per_sample(self, exchange: Exchange) -> Tensor:
        """The loss of each sample, ``(B,)``."""
        student_logits, teacher_logits = exchange.student.logits, exchange.teacher.logits
        check_same_logits(student_logits, teacher_logits)
        temperature = value_at(self.temperature, exchange.progress)
        return _divergence(student_logits, teacher_logits, temperature) * temperature**2
