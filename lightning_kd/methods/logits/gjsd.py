"""Generalized Jensen-Shannon divergence: between forward and reverse KL."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods._mixture import log_mixture
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature
from lightning_kd.schedules import Scheduled, value_at


def generalized_jsd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float = 0.5,
    temperature: float = 1.0,
    normalize: bool = False,
) -> Tensor:
    r"""Generalized Jensen-Shannon divergence.

    .. math:: \beta\,\mathrm{KL}(p^t \| m) + (1 - \beta)\,\mathrm{KL}(p^s \| m), \qquad m = \beta p^t + (1-\beta) p^s

    At the ends the convention of GKD applies: ``beta=0`` is the forward :math:`\mathrm{KL}(p^t \| p^s)`, ``beta=1`` the
    reverse. The divergence itself vanishes towards the ends, so that ``beta=0.01`` is about a hundred times smaller
    than ``beta=0``; ``normalize=True`` divides by :math:`\beta(1-\beta)`, which makes the ends continuous.

    Args:
        student_logits: student logits, ``(..., C)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        beta: interpolation in ``[0, 1]``.
        temperature: softmax temperature; the loss carries no ``T**2``.
        normalize: divide by ``beta * (1 - beta)`` for ``0 < beta < 1``.

    Returns:
        Scalar: sum over classes, mean over the samples, at least float32.

    Raises:
        ValueError: if the shapes differ, the temperature is not positive or ``beta`` is outside ``[0, 1]``.

    Reference: Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
    ICLR 2024, arXiv:2306.13649.
    """
    check_same_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    _check_beta(beta)
    student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    if beta == 0:
        return _kl(teacher, student).mean()
    if beta == 1:
        return _kl(student, teacher).mean()
    student_probability, teacher_probability = student.exp(), teacher.exp()
    mixture = log_mixture(student_probability, teacher_probability, beta)
    forward = (teacher_probability * (teacher - mixture)).sum(-1)
    reverse = (student_probability * (student - mixture)).sum(-1)
    divergence = (beta * forward + (1 - beta) * reverse).mean()
    return divergence / (beta * (1 - beta)) if normalize else divergence


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(p || q)`` over the last dimension, with a gradient into both."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _check_beta(beta: float) -> None:
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1] (0: forward KL, 1: reverse KL), got {beta}")


class GJSD(DistillationMethod):
    """:func:`generalized_jsd_loss` between student and teacher logits.

    Args:
        beta: interpolation between forward (0) and reverse (1) KL.
        temperature: softmax temperature.
        normalize: divide by ``beta * (1 - beta)``.
        weight: factor in the total loss.
    """

    citation = Citation(
        "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
        "Agarwal et al.",
        "ICLR",
        2024,
        "2306.13649",
    )
    aliases = ("JSD", "GKDLoss", "JensenShannon")

    def __init__(
        self, beta: float = 0.5, temperature: Scheduled = 1.0, normalize: bool = False, weight: Weight = 1.0
    ) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        _check_beta(beta)
        self.beta, self.temperature, self.normalize = beta, temperature, normalize

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`generalized_jsd_loss`."""
        return generalized_jsd_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            self.beta,
            value_at(self.temperature, exchange.progress),
            self.normalize,
        )
