"""Tempered, decoupled top-K KL: distillation that needs the teacher's K likeliest tokens only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature
from lightning_kd.methods.language._tokens import (
    IGNORE_INDEX,
    _TokenMethod,
    check_mask,
    kl_per_token,
    masked_mean,
    share_of_tokens,
)


def topk_decoupled_kl_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor | None = None,
    k: int = 32,
    temperature: float = 1.0,
) -> Tensor:
    r"""KL of the teacher's top-K mass plus a tempered KL inside the top K.

    .. math:: \mathrm{KL}\big(\mathrm{Bern}(P_K) \| \mathrm{Bern}(Q_K)\big)
        + P_K\,\mathrm{KL}\big(p^{t,T}(\cdot \mid K) \| p^{s,T}(\cdot \mid K)\big)

    :math:`P_K` and :math:`Q_K` are the teacher's and the student's mass of the teacher's K likeliest tokens, at
    temperature 1. The temperature applies to the conditional part alone, which avoids the floor that a truncated
    teacher otherwise puts under the loss. At ``temperature=1`` this is the KL in which all other tokens form one; with
    ``k = V`` the plain KL.

    The gradient is written by hand and cannot be differentiated again.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.
        k: size of the top set, at most ``V``.
        temperature: temperature ``T`` of the conditional part; there is no ``T**2``.

    Returns:
        Scalar: mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit, ``k`` is not in ``1..V`` or the temperature is not positive.

    Reference: "LFM2 Technical Report", Liquid AI, 2025, arXiv:2511.23404. The report leaves the temperature and a
    factor ``T**2`` open; use ``weight`` for the latter.
    """
    check_same_logits(student_logits, teacher_logits)
    check_mask(student_logits, mask)
    check_temperature(temperature)
    vocabulary = student_logits.shape[-1]
    if not 1 <= k <= vocabulary:
        raise ValueError(f"k must be between 1 and the vocabulary's size {vocabulary}, got {k}")
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    if k == vocabulary:
        tempered = teacher / temperature, student / temperature
        return masked_mean(kl_per_token(*(logits.log_softmax(-1) for logits in tempered)), mask)
    top = teacher.topk(k, dim=-1).indices
    return _decoupled(student, top, _split(teacher, top), mask, temperature)


def _decoupled(
    student: Tensor, top: Tensor, teacher: tuple[Tensor, Tensor], mask: Tensor | None, temperature: float
) -> Tensor:
    (top_student, student_mass), (top_teacher, teacher_mass) = _split(student, top), teacher
    conditional = kl_per_token(
        F.log_softmax(top_teacher / temperature, dim=-1), F.log_softmax(top_student / temperature, dim=-1)
    )
    divergence = kl_per_token(teacher_mass, student_mass) + teacher_mass[..., 0].exp() * conditional
    return masked_mean(divergence, mask)


def _split(logits: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """The top K's logits, and the log-mass of the top K and of the others, ``(..., 2)``, exact however small either."""
    parts: tuple[Tensor, Tensor] = _TopAndOthers.apply(logits, top)
    top_logits, others = parts
    return top_logits, F.log_softmax(torch.cat([top_logits.logsumexp(-1, keepdim=True), others], dim=-1), dim=-1)


class _TopAndOthers(torch.autograd.Function):
    """Gathered top logits and the log-sum-exp of the others, with one pass over the vocabulary for the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        others = logits.scatter(-1, top, -torch.inf)
        share = others.softmax(-1)
        ctx.save_for_backward(share, top)
        # the largest share is one over the sum of exponentials, relative to the largest logit
        log_sum = others.amax(-1, keepdim=True) - share.amax(-1, keepdim=True).log()
        return logits.gather(-1, top), log_sum

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_top: Tensor, to_others: Tensor) -> tuple[Tensor, None]:
        share, top = ctx.saved_tensors
        return (share * to_others).scatter_(-1, top, to_top), None


class TopKDecoupledKL(_TokenMethod):
    """:func:`topk_decoupled_kl_loss` between next-token distributions.

    Args:
        k: size of the top set; the report uses 32.
        temperature: temperature of the conditional part.
        weight: factor in the total loss.
        ignore_index: label of the positions to leave out.
        shift_labels: whether labels are unshifted, as Hugging Face models take them.
    """

    citation = Citation("LFM2 Technical Report", "Liquid AI", "technical report", 2025, "2511.23404")
    aliases = ("LFM2", "DTK", "DecoupledTopK")
    reads_top_k = True

    def __init__(
        self,
        k: int = 32,
        temperature: float = 1.0,
        weight: Weight = 1.0,
        ignore_index: int = IGNORE_INDEX,
        shift_labels: bool = False,
    ) -> None:
        super().__init__(weight, ignore_index, shift_labels)
        check_temperature(temperature)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k, self.temperature = k, temperature

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`topk_decoupled_kl_loss`; a vocabulary smaller than ``k`` is taken whole."""
        k = min(self.k, student_logits.shape[-1])
        return topk_decoupled_kl_loss(student_logits, teacher_logits, mask, k, self.temperature)

    def forward(self, exchange: Exchange) -> Tensor:
        """As for all token methods; of a cached teacher the top tokens are enough."""
        student, vocabulary = exchange.student.logits, exchange.student.logits.shape[-1]
        if not exchange.teacher.partial or self.k >= vocabulary:
            return super().forward(exchange)
        mask = self.mask(exchange)
        check_mask(student, mask)
        top = exchange.teacher.top(self.k)
        masses = torch.stack([top.log_probabilities.logsumexp(-1), top.log_tail], dim=-1)
        teacher = top.log_probabilities, masses
        loss = _decoupled(at_least_float32(student), top.indices, teacher, mask, self.temperature)
        return loss * share_of_tokens(mask, loss)
