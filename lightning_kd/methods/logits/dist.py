"""DIST: correlate the predictions of student and teacher instead of matching them exactly."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature
from lightning_kd.methods.logits._classes import check_matrix
from lightning_kd.methods.logits._pearson import pearson
from lightning_kd.schedules import Scheduled, value_at


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
) -> Tensor:
    r"""Inter- and intra-class relation loss of DIST.

    .. math:: T^2\Big[\beta\,\big(1 - \tfrac1B\sum_b \rho(P^s_{b,:}, P^t_{b,:})\big)
        + \gamma\,\big(1 - \tfrac1C\sum_c \rho(P^s_{:,c}, P^t_{:,c})\big)\Big]

    with :math:`P = \mathrm{softmax}(z/T)` and :math:`\rho` Pearson's correlation. The second term correlates each
    class over the batch, so it depends on the batch size; with a single sample it is the constant ``gamma * T**2``.

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        beta: weight of the inter-class (row) term.
        gamma: weight of the intra-class (column) term.
        temperature: softmax temperature ``T``; the loss carries ``T**2``.

    Returns:
        Scalar, at least float32. A perfect student reaches zero up to the constant (1e-8) that guards the correlation:
        where all predictions are nearly uniform, a little remains.

    Raises:
        ValueError: if the shapes differ or the temperature is not positive.

    Reference: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv:2205.10536.
    """
    check_matrix(student_logits)
    check_same_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    student = F.softmax(at_least_float32(student_logits) / temperature, dim=-1)
    teacher = F.softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    inter = 1 - pearson(student, teacher, dim=1).mean()
    intra = 1 - pearson(student, teacher, dim=0).mean()
    return (beta * inter + gamma * intra) * temperature**2


class DIST(DistillationMethod):
    """:func:`dist_loss` between student and teacher logits; the column term sees each rank's own batch.

    Args:
        beta: weight of the inter-class term.
        gamma: weight of the intra-class term.
        temperature: softmax temperature; the paper uses 4 on CIFAR-100 and 1 on ImageNet.
        weight: factor in the total loss; the authors' code uses 2, with ``task_weight=1``.
    """

    citation = Citation("Knowledge Distillation from A Stronger Teacher", "Huang et al.", "NeurIPS", 2022, "2205.10536")
    aliases = ("DISTLoss",)

    def __init__(
        self, beta: float = 1.0, gamma: float = 1.0, temperature: Scheduled = 4.0, weight: Weight = 2.0
    ) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`dist_loss`."""
        return dist_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            self.beta,
            self.gamma,
            value_at(self.temperature, exchange.progress),
        )
