"""Transformed Teacher Matching: temper the teacher only, and weight samples by the smoothness of its prediction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature
from lightning_kd.schedules import Scheduled, value_at


def ttm_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 10.0, weighted: bool = True
) -> Tensor:
    r"""Transformed teacher matching loss, weighted (WTTM) or not (TTM).

    .. math:: U_{1/T}(p^t)\;\mathrm{KL}\big(\mathrm{softmax}(z^t/T)\,\|\,\mathrm{softmax}(z^s)\big),
        \qquad U_\gamma(p) = \sum_c p_c^\gamma

    Dropping the temperature on the student's side equals KD plus a Rényi entropy regulariser. There is no ``T**2``.

    Args:
        student_logits: student logits, ``(..., C)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        temperature: teacher's temperature ``T``; the paper's exponent :math:`\gamma` is ``1/T``.
        weighted: multiply each sample by the power sum :math:`U` of the teacher's prediction.

    Returns:
        Scalar: sum over classes, mean over the samples, at least float32.

    Raises:
        ValueError: if the shapes differ or the temperature is not positive.

    Reference: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
    arXiv:2402.11148.
    """
    check_same_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    teacher = at_least_float32(teacher_logits.detach())
    student_log = F.log_softmax(at_least_float32(student_logits), dim=-1)
    teacher_log = F.log_softmax(teacher / temperature, dim=-1)
    divergence = F.kl_div(student_log, teacher_log, reduction="none", log_target=True).sum(-1)
    if weighted:
        power_sum = torch.logsumexp(F.log_softmax(teacher, dim=-1) / temperature, dim=-1).exp()
        divergence = divergence * power_sum
    return divergence.mean()


class WTTM(DistillationMethod):
    """:func:`ttm_loss` between student and teacher logits.

    Args:
        temperature: teacher's temperature. The paper tunes it by pair: 10 for most CIFAR-100 pairs, 1.25 (ResNet-34 →
            18) and 1.43 (ResNet-50 → MobileNet) on ImageNet.
        weighted: ``False`` for plain TTM, whose weights are far larger (8 to 101 on CIFAR-100).
        weight: factor in the total loss, tuned by pair too: 1.5 to 4 on most CIFAR-100 pairs (3 for ResNet-32x4 →
            8x4), 1.6 and 3.5 on ImageNet; with ``task_weight=1``.
    """

    citation = Citation(
        "Knowledge Distillation Based on Transformed Teacher Matching", "Zheng and Yang", "ICLR", 2024, "2402.11148"
    )
    aliases = ("TTM", "TransformedTeacherMatching")

    def __init__(self, temperature: Scheduled = 10.0, weighted: bool = True, weight: Weight = 3.0) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.temperature, self.weighted = temperature, weighted

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`ttm_loss`."""
        return ttm_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            value_at(self.temperature, exchange.progress),
            self.weighted,
        )
