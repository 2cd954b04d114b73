"""Curriculum Temperature: the temperature is learnt against the student, more and more."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits


def learned_temperature_kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: Tensor) -> Tensor:
    r"""The loss of KD at a temperature that is a tensor, with a gradient into it.

    .. math:: T^2\,\mathrm{KL}\big(\mathrm{softmax}(z^t/T)\,\|\,\mathrm{softmax}(z^s/T)\big)

    Args:
        student_logits: student logits, ``(..., C)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        temperature: positive scalar ``T``; it takes a gradient through both distributions and ``T**2``.

    Returns:
        Scalar: sum over classes, mean over the samples, at least float32.

    Raises:
        ValueError: if the shapes differ.

    Reference: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, arXiv:2211.16231.
    """
    check_same_logits(student_logits, teacher_logits)
    student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    divergence = (teacher.exp() * (teacher - student)).sum(-1)
    return divergence.mean() * temperature**2


def scale_gradient(value: Tensor, factor: float) -> Tensor:
    """The same value, whose gradient is multiplied by ``factor``; a negative one reverses it."""
    return value * factor + value.detach() * (1 - factor)


class CTKD(DistillationMethod):
    r""":func:`learned_temperature_kd_loss` with the paper's global temperature.

    :math:`T = t_{start} + t_{range}\,\sigma(\theta)`. The student lowers the loss; :math:`\theta` gets the reversed
    gradient, times a factor that grows from 0 to ``strength`` along a cosine over ``ramp_epochs`` epochs, and so makes
    the task harder. With the defaults training starts at ``T = 15.62``.

    The temperature is a parameter of the method: it is optimised with the student (weight decay included, as in the
    authors' code), saved, resumed, and kept equal on all ranks.

    Args:
        start: lowest temperature.
        span: width of the range; the temperature stays in ``(start, start + span)``.
        strength: final factor of the reversed gradient.
        ramp_epochs: epochs until the full strength: 10 on CIFAR-100, 5 on ImageNet.
        weight: factor in the total loss; the CIFAR-100 recipe is 0.9 with ``task_weight=0.1``.
    """

    citation = Citation("Curriculum Temperature for Knowledge Distillation", "Li et al.", "AAAI", 2023, "2211.16231")
    aliases = ("CurriculumTemperature",)

    def __init__(
        self,
        start: float = 1.0,
        span: float = 20.0,
        strength: float = 1.0,
        ramp_epochs: int = 10,
        weight: Weight = 0.9,
    ) -> None:
        super().__init__(weight)
        if start <= 0 or span < 0 or strength < 0 or ramp_epochs < 1:
            raise ValueError(
                "expected start > 0, span >= 0, strength >= 0 and ramp_epochs >= 1, got "
                f"start={start}, span={span}, strength={strength}, ramp_epochs={ramp_epochs}"
            )
        self.start, self.span, self.strength, self.ramp_epochs = start, span, strength, ramp_epochs
        self.theta = nn.Parameter(torch.ones(()))

    @property
    def temperature(self) -> Tensor:
        """The present temperature."""
        return self.start + self.span * torch.sigmoid(at_least_float32(self.theta))

    def reversal(self, epoch: int) -> float:
        """Factor of the temperature's gradient in an epoch (from 0): not positive, ``-strength`` in the end.

        The first epoch counts as 1, as in the authors' loop.
        """
        passed = min(epoch + 1, self.ramp_epochs)
        return -self.strength * (1 - math.cos(math.pi * passed / self.ramp_epochs)) / 2

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`learned_temperature_kd_loss`."""
        temperature = scale_gradient(self.temperature, self.reversal(exchange.progress.epoch))
        return learned_temperature_kd_loss(exchange.student.logits, exchange.teacher.logits, temperature)
