"""Losses on next-token logits ``(N, V)`` with a mask ``(N,)``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def forward_kl_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Divergence from the teacher."""
    kl = F.kl_div(F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="none").sum(-1)
    return _mean(kl, mask)


def fused_linear_divergence(
    hidden: Tensor, weight: Tensor, taught: Tensor, teacher_weight: Tensor, mask: Tensor
) -> Tensor:
    """Divergence from the teacher, by way of all logits."""
    return forward_kl_loss(hidden @ weight.T, taught @ teacher_weight.T, mask)


def reverse_kl_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Divergence from the student."""
    log_p, log_q = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    return _mean((log_p.exp() * (log_p - log_q)).sum(-1), mask)


def total_variation_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Half the absolute difference."""
    return _mean((F.softmax(teacher, -1) - F.softmax(student, -1)).abs().sum(-1) / 2, mask)


def skew_forward_kl_loss(student: Tensor, teacher: Tensor, mask: Tensor, alpha: float = 0.1) -> Tensor:
    """Divergence from the teacher to a mixture."""
    q = F.softmax(teacher, -1)
    mixture = alpha * q + (1 - alpha) * F.softmax(student, -1)
    return _mean((q * (F.log_softmax(teacher, -1) - mixture.log())).sum(-1), mask)


def skew_reverse_kl_loss(student: Tensor, teacher: Tensor, mask: Tensor, alpha: float = 0.1) -> Tensor:
    """Divergence from the student to a mixture."""
    p = F.softmax(student, -1)
    mixture = alpha * p + (1 - alpha) * F.softmax(teacher, -1)
    return _mean((p * (F.log_softmax(student, -1) - mixture.log())).sum(-1), mask)


def taid_loss(student: Tensor, teacher: Tensor, mask: Tensor, t: float = 0.4) -> Tensor:
    """Divergence from interpolated logits."""
    target = (1 - t) * student.detach() + t * teacher
    kl = F.kl_div(F.log_softmax(student, -1), F.softmax(target, -1), reduction="none").sum(-1)
    return _mean(kl, mask)


def adaptive_kl_loss(student: Tensor, teacher: Tensor, mask: Tensor, mu: float = 0.5) -> Tensor:
    """Both divergences, weighted by where the distributions differ."""
    p, q = F.softmax(student, -1), F.softmax(teacher, -1)
    with torch.no_grad():
        ordered, order = q.sort(-1, descending=True)
        gap = (ordered - p.gather(-1, order)).abs()
        head = ordered.cumsum(-1) <= mu
        head[..., 0] = True
        share = (gap * head).sum(-1) / gap.sum(-1)
    log_ratio = F.log_softmax(teacher, -1) - F.log_softmax(student, -1)
    forward, reverse = (q * log_ratio).sum(-1), -(p * log_ratio).sum(-1)
    return _mean(share * forward + (1 - share) * reverse, mask)


def topk_decoupled_kl_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, k: int = 32, temperature: float = 1.0
) -> Tensor:
    """Mass of the teacher's top tokens, and their distribution."""
    p, q = F.softmax(student, -1), F.softmax(teacher, -1)
    top = teacher.topk(k, dim=-1).indices
    p_top, q_top = p.gather(-1, top).sum(-1), q.gather(-1, top).sum(-1)
    binary = q_top * (q_top / p_top).log() + (1 - q_top) * ((1 - q_top) / (1 - p_top)).log()
    inside = F.kl_div(
        F.log_softmax(student.gather(-1, top) / temperature, -1),
        F.softmax(teacher.gather(-1, top) / temperature, -1),
        reduction="none",
    ).sum(-1)
    return _mean(binary + q_top * inside, mask)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()
