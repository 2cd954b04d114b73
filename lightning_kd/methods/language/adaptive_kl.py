"""Adaptive KL: forward KL where the head of the distribution is off, reverse KL where the tail is."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits
from lightning_kd.methods.language._tokens import (
    IGNORE_INDEX,
    _TokenMethod,
    check_mask,
    masked_mean,
)


def adaptive_kl_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None, mu: float = 0.5
) -> Tensor:
    r"""Forward and reverse KL, mixed per token by where the two distributions differ.

    .. math:: \frac{g_h}{g_h + g_t}\,\mathrm{KL}(p^t \| p^s) + \frac{g_t}{g_h + g_t}\,\mathrm{KL}(p^s \| p^t)

    The head holds the teacher's most likely tokens while their cumulative mass is at most ``mu`` (the first one
    always), the tail all others; :math:`g` is the sum of :math:`|p^t - p^s|` over either. The weights are constants to
    the gradient, one half each where the distributions agree exactly.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.
        mu: teacher's mass of the head, in ``(0, 1]``.

    Returns:
        Scalar: sum over the vocabulary, mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit or ``mu`` is outside ``(0, 1]``.

    Reference: Wu et al., "Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models",
    COLING 2025, arXiv:2404.02657.
    """
    _check_mu(mu)
    check_same_logits(student_logits, teacher_logits)
    check_mask(student_logits, mask)
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    student_probability, teacher_probability = student.softmax(-1), teacher.softmax(-1)
    forward_share = _head_share(student_probability.detach(), teacher_probability, mu)
    # only now: sorting takes the most memory
    log_ratio = teacher.log_softmax(-1) - student.log_softmax(-1)
    forward, reverse = (teacher_probability * log_ratio).sum(-1), -(student_probability * log_ratio).sum(-1)
    divergence = forward_share * forward + (1 - forward_share) * reverse
    return masked_mean(divergence, mask)


def _head_share(student: Tensor, teacher: Tensor, mu: float) -> Tensor:
    """Share of the head in the difference of both distributions."""
    teacher, order = teacher.sort(dim=-1, descending=True, stable=True)
    difference = (teacher - student.gather(-1, order)).abs()
    first = torch.arange(teacher.shape[-1], device=teacher.device) == 0
    head = (teacher.cumsum(-1) <= mu) | first
    total = difference.sum(-1)
    share = (difference * head).sum(-1) / total.clamp_min(torch.finfo(total.dtype).tiny)
    return torch.where(total > 0, share, 0.5)


def _check_mu(mu: float) -> None:
    if not 0 < mu <= 1:
        raise ValueError(f"mu must be in (0, 1], got {mu}")


class AdaptiveKL(_TokenMethod):
    """:func:`adaptive_kl_loss` between next-token distributions.

    Args:
        mu: teacher's mass of the head.
        weight: factor in the total loss.
        ignore_index: label of the positions to leave out.
        shift_labels: whether labels are unshifted, as Hugging Face models take them.
    """

    citation = Citation(
        "Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models",
        "Wu et al.",
        "COLING",
        2025,
        "2404.02657",
    )
    aliases = ("AKL",)

    def __init__(
        self, mu: float = 0.5, weight: Weight = 1.0, ignore_index: int = IGNORE_INDEX, shift_labels: bool = False
    ) -> None:
        super().__init__(weight, ignore_index, shift_labels)
        _check_mu(mu)
        self.mu = mu

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`adaptive_kl_loss`."""
        return adaptive_kl_loss(student_logits, teacher_logits, mask, self.mu)
