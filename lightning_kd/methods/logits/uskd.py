"""Universal Self-Knowledge Distillation: soft labels made of the student's own prediction and its features' ranking."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.linear_projector import LinearProjector
from lightning_kd.connectors.maps import pooled
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels
from lightning_kd.methods.logits._classes import check_matrix, without_target

_EPS = 1e-6

USKDMode = Literal["code", "probability"]
"""How the two predictions are summed for the ranking; see :func:`uskd_loss`."""


def uskd_loss(
    student_logits: Tensor,
    weak_logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 0.1,
    mu: float = 0.005,
    mode: USKDMode = "code",
) -> Tensor:
    r"""Loss of universal self-distillation.

    .. math:: -\,\alpha\,\big(p_y^2 + 1 - \overline{p_y^2}\big) \log p_y
        \;-\; \beta \sum_{c \ne y} \hat z_c \log \hat p_c \;+\; \mu\,\mathrm{CE}_{0.1}(w, y)

    :math:`p` is the student's prediction, :math:`\hat p` its distribution over the other classes, and :math:`\hat z`
    Zipf's law (one over the rank), normalised over the other classes. The ranking is that of the sum of the student's
    and the weak prediction, each divided by its mass of the other classes. The weak prediction comes from a linear head
    on a middle layer, which learns from the last term, a cross-entropy smoothed by 0.1. Soft labels and ranking are
    constants to the gradient.

    Args:
        student_logits: student logits, ``(B, C)``.
        weak_logits: logits of the head on the middle layer, ``(B, C)``.
        target: class indices, ``(B,)``.
        alpha: weight of the target class.
        beta: weight of the other classes.
        mu: weight of the weak head's cross-entropy.
        mode: the authors' code adds the student's *log*-probabilities to the weak probabilities (``"code"``);
            ``"probability"`` adds two probabilities, which its variable names suggest was meant.

    Returns:
        Scalar: mean over the batch, at least float32.

    Raises:
        ValueError: if shapes differ or ``mode`` is unknown.

    Reference: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
    Normalized Loss and Customized Soft Labels", ICCV 2023, arXiv:2303.13005.
    """
    check_matrix(student_logits)
    if weak_logits.shape != student_logits.shape:
        raise ValueError(
            f"student and weak logits must have the same shape, got {tuple(student_logits.shape)} and "
            f"{tuple(weak_logits.shape)}"
        )
    check_labels(student_logits, target)
    _check_mode(mode)
    student, weak = at_least_float32(student_logits), at_least_float32(weak_logits)
    log_label = F.log_softmax(student, dim=-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    squared = (2 * log_label.detach()).exp()
    target_term = -(squared + 1 - squared.mean()) * log_label

    zipf = 1 / (_rank(student.detach(), weak.detach(), target, mode) + 1).to(student.dtype)
    soft = without_target(zipf, target)
    soft = soft / soft.sum(-1, keepdim=True)
    others_term = -(soft * F.log_softmax(without_target(student, target), dim=-1)).sum(-1)

    weak_term = F.cross_entropy(weak, target, label_smoothing=0.1)
    return (alpha * target_term + beta * others_term).mean() + mu * weak_term


def _rank(student: Tensor, weak: Tensor, target: Tensor, mode: USKDMode) -> Tensor:
    """Position of every class when sorted by both predictions, from 0; the target keeps its place among them."""
    scores = _relative(F.softmax(weak, dim=-1), target)
    prediction = F.log_softmax(student, dim=-1) if mode == "code" else F.softmax(student, dim=-1)
    scores = scores + _relative(prediction, target)
    order = scores.argsort(dim=-1, descending=True, stable=True)
    positions = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter(-1, order, positions)


def _relative(prediction: Tensor, target: Tensor) -> Tensor:
    return prediction / (1 - prediction.gather(-1, target.unsqueeze(-1)) + _EPS)


def _check_mode(mode: str) -> None:
    if mode not in get_args(USKDMode):
        raise ValueError(f"mode must be one of {get_args(USKDMode)}, got {mode!r}")


class USKD(DistillationMethod):
    """:func:`uskd_loss`: self-distillation without a teacher, added to the task loss.

    Args:
        alpha: weight of the target class.
        beta: weight of the other classes.
        mu: weight of the weak head. The paper tunes all three by network; 0.1 each for ResNet-18 on CIFAR-100.
        mode: ``"code"`` or ``"probability"``.
        layers: the middle layer, ``{student layer: student layer}``; ``"auto"`` takes the last stage but one.
        weight: factor in the total loss.
    """

    citation = Citation(
        "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and "
        "Customized Soft Labels",
        "Yang et al.",
        "ICCV",
        2023,
        "2303.13005",
    )
    aliases = ("USKDLoss",)
    needs_teacher = False
    needs_target = True

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 0.1,
        mu: float = 0.005,
        mode: USKDMode = "code",
        layers: Layers = "auto",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        _check_mode(mode)
        self.alpha, self.beta, self.mu = alpha, beta, mu
        self.mode: USKDMode = mode
        self.head: nn.Module = nn.Identity()

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last stage but one, or the only one."""
        return pairs[-2:-1] or pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Create the weak head."""
        feature = pooled(self.student_features(context.exchange)[0])
        self.head = LinearProjector(feature.shape[-1], context.exchange.student.logits.shape[-1])

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`uskd_loss`."""
        weak_logits = self.head(pooled(self.student_features(exchange)[0]))
        return uskd_loss(
            exchange.student.logits, weak_logits, exchange.labels, self.alpha, self.beta, self.mu, self.mode
        )
