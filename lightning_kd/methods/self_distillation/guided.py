"""Guided self-distillation: the labels, weighted, keep the next generation from fading."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits

Objective = Literal["cross_entropy", "mse"]


def guided_self_distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    alpha: float,
    objective: Objective = "cross_entropy",
) -> Tensor:
    r"""Loss against the labels and against the predictions of the previous generation.

    .. math:: \alpha\,\ell(p^s, m) + (1-\alpha)\,\ell(p^s, p^t)

    where :math:`m` is the one-hot label and :math:`\ell` the cross-entropy or the squared distance of probabilities.

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: logits of the previous generation, ``(B, C)``; no gradient flows into them.
        target: class indices, ``(B,)``.
        alpha: weight of the labels; the optimal one can lie outside ``[0, 1]``.
        objective: ``"cross_entropy"``, or ``"mse"`` as in the paper's experiments.

    Returns:
        Scalar: sum over classes, mean over the batch, at least float32.

    Raises:
        ValueError: if the shapes differ, the labels do not fit or the objective is unknown.

    Reference: Borup and Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed
    by Self-Distillation", NeurIPS 2021, arXiv:2102.13088.
    """
    check_same_logits(student_logits, teacher_logits)
    check_labels(student_logits, target)
    _check_objective(objective)
    soft = at_least_float32(teacher_logits.detach()).softmax(-1)
    student_logits = at_least_float32(student_logits)
    if objective == "mse":
        probability = student_logits.softmax(-1)
        hard = F.one_hot(target, soft.shape[-1]).to(soft.dtype)
        losses = [(probability - wanted).square().sum(-1).mean() for wanted in (hard, soft)]
    else:
        # the two terms apart: with a weight outside [0, 1] the mixture is no distribution
        log_probability = F.log_softmax(student_logits, dim=-1)
        label_term = -log_probability.gather(-1, target.unsqueeze(-1)).mean()
        losses = [label_term, -(soft * log_probability).sum(-1).mean()]
    return alpha * losses[0] + (1 - alpha) * losses[1]


def optimal_label_weight(
    label_predictions: Tensor, distilled_predictions: Tensor, target: Tensor, *, clip: bool = True
) -> float:
    r"""The weight of the labels with which the next generation predicts best, in closed form.

    .. math:: \alpha^\star = \frac{\langle y - h,\; g - h\rangle}{\|g - h\|^2}

    Exact where a fit is linear in its targets, as in kernel ridge regression; an estimate for networks.

    Args:
        label_predictions: predictions ``g`` of a model fitted to the labels only, on validation samples,
            ``(N, ...)``; for a classifier probabilities ``(N, C)``.
        distilled_predictions: predictions ``h`` of a model fitted to the previous generation's predictions only.
        target: what should have been predicted, of the same shape, or class indices ``(N,)``.
        clip: keep the weight in ``[0, 1]``.

    Returns:
        The weight; 1 where ``g`` and ``h`` are equal, since then it does not matter.

    Raises:
        ValueError: if the shapes do not fit.

    >>> g, h = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])
    >>> optimal_label_weight(g, h, torch.tensor([0.25, 3.0]))
    0.25
    """
    g, h = label_predictions.detach().double(), distilled_predictions.detach().double()
    if g.dim() == 2 and target.dim() == 1 and not target.is_floating_point():
        target = F.one_hot(target, g.shape[-1])
    if not g.shape == h.shape == target.shape:
        raise ValueError(
            f"predictions and target must have the same shape (or the target holds class indices), got "
            f"{tuple(label_predictions.shape)}, {tuple(distilled_predictions.shape)} and {tuple(target.shape)}"
        )
    distance = (g - h).square().sum()
    if distance == 0:
        return 1.0
    alpha = (((target.double() - h) * (g - h)).sum() / distance).item()
    return min(max(alpha, 0.0), 1.0) if clip else alpha


def _check_objective(objective: str) -> None:
    if objective not in get_args(Objective):
        raise ValueError(f"objective must be one of {', '.join(map(repr, get_args(Objective)))}, got {objective!r}")


class GuidedSelfDistillation(DistillationMethod):
    """:func:`guided_self_distillation_loss`: one generation, whose teacher is the previous one.

    The method is the whole loss, labels included: use it with ``task_weight=0``. With ``alpha=1`` there is nothing to
    learn from a teacher and none is needed: that is the first generation. The loop over generations, and the choice of
    ``alpha`` for each, is :func:`~lightning_kd.methods.self_distillation.self_distil`.

    Args:
        alpha: weight of the labels, against the predictions of the previous generation.
        objective: ``"cross_entropy"`` or ``"mse"``.
        weight: factor in the total loss.

    Raises:
        ValueError: if the objective is unknown.
    """

    citation = Citation(
        "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by Self-Distillation",
        "Borup and Andersen",
        "NeurIPS",
        2021,
        "2102.13088",
    )
    needs_target = True

    def __init__(self, alpha: float = 0.35, objective: Objective = "cross_entropy", weight: Weight = 1.0) -> None:
        super().__init__(weight)
        _check_objective(objective)
        self.alpha, self.objective = alpha, objective
        # what the class declares holds for all generations but the first
        vars(self)["needs_teacher"] = alpha != 1

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`guided_self_distillation_loss`."""
        student = exchange.student.logits
        teacher = exchange.teacher.logits if self.needs_teacher else torch.zeros_like(student)
        return guided_self_distillation_loss(student, teacher, exchange.labels, self.alpha, self.objective)
