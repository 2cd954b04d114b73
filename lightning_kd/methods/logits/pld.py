"""Plackett-Luce Distillation: the teacher's ranking as a weighted list-wise loss that contains the cross-entropy."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits, check_temperature
from lightning_kd.methods.logits._classes import check_matrix
from lightning_kd.schedules import Scheduled, value_at

PositionWeights = Literal["teacher", "top", "uniform", "decay"]
"""How the choices of a ranking are weighted; see :func:`pld_loss`."""


def pld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 1.0,
    mode: PositionWeights = "teacher",
) -> Tensor:
    r"""Plackett-Luce distillation loss.

    The classes are ranked with the label first and the others by descending teacher logit, :math:`\pi`. The student
    has to pick them one after another:

    .. math:: \sum_{k=1}^{C} \alpha_k \Big[-s_{\pi_k} + \log\sum_{\ell \ge k} \exp s_{\pi_\ell}\Big],
        \qquad \alpha_k = \mathrm{softmax}(z^t/T)_{\pi_k}

    The first choice is the cross-entropy, weighted by the teacher's probability of the label: the loss replaces the
    task loss (``task_weight=0``) and has no ``T**2`` factor, since the student is not tempered.

    Args:
        student_logits: student logits :math:`s`, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        target: class indices, ``(B,)``.
        temperature: temperature ``T`` of the teacher's weights; 1 suits ImageNet, 4 CIFAR.
        mode: weights :math:`\alpha`. ``"teacher"`` is the method; the others are the paper's special cases:
            ``"top"`` (only the first choice: cross-entropy), ``"uniform"`` (``1/C`` each: ListMLE) and ``"decay"``
            (proportional to :math:`2^{C-k} - 1`, summing to one: p-ListMLE).

    Returns:
        Scalar: sum over the choices, mean over the batch, at least float32.

    Raises:
        ValueError: if shapes differ, the temperature is not positive or ``mode`` is unknown.

    Reference: Bassam et al., "PLD: A Choice-Theoretic List-Wise Knowledge Distillation", NeurIPS 2025,
    arXiv:2506.12542; ListMLE: Xia et al., ICML 2008; p-ListMLE: Lan et al., UAI 2014.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.5, -1.0, 0.0]])
    >>> label = torch.tensor([1])
    >>> cross_entropy = torch.nn.functional.cross_entropy(logits, label)
    >>> torch.allclose(pld_loss(logits, logits, label, mode="top"), cross_entropy)
    True
    """
    check_matrix(student_logits)
    check_same_logits(student_logits, teacher_logits)
    check_labels(student_logits, target)
    check_temperature(temperature)
    student = at_least_float32(student_logits)
    teacher = at_least_float32(teacher_logits.detach())

    # Worst class first and the label last, so that a running log-sum-exp covers "this class and all ranked below".
    order = teacher.scatter(-1, target.unsqueeze(-1), torch.inf).argsort(dim=-1, stable=True)
    ranked = student.gather(-1, order)
    choices = ranked.logcumsumexp(-1) - ranked
    if mode == "teacher":
        weights = F.softmax(teacher / temperature, dim=-1).gather(-1, order)
    else:
        weights = _position_weights(mode, student)
    return (weights * choices).sum(-1).mean()


def _position_weights(mode: PositionWeights, like: Tensor) -> Tensor:
    """Weights of the choices from the last to the first, ``(C,)``."""
    num_classes = like.shape[-1]
    below = torch.arange(num_classes, device=like.device, dtype=like.dtype)
    if mode == "top":
        return (below == num_classes - 1).to(like.dtype)
    if mode == "uniform":
        return torch.full_like(below, 1 / num_classes)
    if mode == "decay":
        # 2^below - 1 overflows for a thousand classes; dividing by the largest power changes nothing after normalising.
        weights = torch.exp2(below - num_classes) - torch.exp2(torch.full_like(below, -num_classes))
        return weights / weights.sum().clamp_min(torch.finfo(like.dtype).tiny)
    raise ValueError(f"mode must be one of {get_args(PositionWeights)}, got {mode!r}")


class PLD(DistillationMethod):
    """:func:`pld_loss` between student and teacher logits; use it with ``task_weight=0``.

    Args:
        temperature: temperature of the teacher's weights; the paper uses 1 on ImageNet and 4 on CIFAR-100.
        mode: ``"teacher"`` or one of the special cases ``"top"``, ``"uniform"``, ``"decay"``.
        weight: factor in the total loss.
    """

    citation = Citation(
        "PLD: A Choice-Theoretic List-Wise Knowledge Distillation", "Bassam et al.", "NeurIPS", 2025, "2506.12542"
    )
    aliases = ("PlackettLuce", "ListMLE", "PListMLE")
    needs_target = True

    def __init__(self, temperature: Scheduled = 1.0, mode: PositionWeights = "teacher", weight: Weight = 1.0) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        if mode not in get_args(PositionWeights):
            raise ValueError(f"mode must be one of {get_args(PositionWeights)}, got {mode!r}")
        self.temperature, self.mode = temperature, mode

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`pld_loss`."""
        return pld_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            exchange.labels,
            value_at(self.temperature, exchange.progress),
            self.mode,
        )
