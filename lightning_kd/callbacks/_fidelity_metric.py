"""Fidelity of a student to its teacher over a data set, synchronised over ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

_SMALLEST_BATCH = 4


class FidelityMetric(Metric):
    """Agreement in the predicted class and divergence of the predictive distributions."""

    full_state_update = False

    rows: Tensor
    agreeing: Tensor
    kl: Tensor
    right: Tensor
    agreeing_right: Tensor
    wrong: Tensor
    agreeing_wrong: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "agreeing", "kl", "right", "agreeing_right", "wrong", "agreeing_wrong"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None) -> None:
        """Take in logits ``(B, C)`` of both sides and, where there are labels, class indices ``(B,)``."""
        student, teacher = F.log_softmax(student_logits, 1), F.log_softmax(teacher_logits, 1)
        predicted = teacher.argmax(1)
        agrees = student.argmax(1) == predicted
        self.rows += agrees.numel()
        self.agreeing += agrees.sum()
        self.kl += F.kl_div(student, teacher, reduction="sum", log_target=True)
        if target is not None:
            right = predicted == target
            self.right += right.sum()
            self.agreeing_right += (agrees & right).sum()
            self.wrong += (~right).sum()
            self.agreeing_wrong += (agrees & ~right).sum()

    def compute(self) -> dict[str, Tensor]:
        """Shares and the mean divergence; what has no sample to be measured on is left out."""
        shares = {
            "agreement": (self.agreeing, self.rows),
            "kl": (self.kl, self.rows),
            "agreement_teacher_right": (self.agreeing_right, self.right),
            "agreement_teacher_wrong": (self.agreeing_wrong, self.wrong),
        }
        return {name: (part / whole).float() for name, (part, whole) in shares.items() if whole > 0}


class CKAMetric(Metric):
    r"""Linear centred kernel alignment of two representations, accumulated batch by batch.

    .. math:: \mathrm{CKA} = \frac{\sum_b \mathrm{HSIC}(K_b, L_b)}
        {\sqrt{\sum_b \mathrm{HSIC}(K_b, K_b)\,\sum_b \mathrm{HSIC}(L_b, L_b)}}

    with the unbiased estimator of HSIC, so the value does not depend on the batch size. Batches of fewer than four
    samples, for which it is undefined, are left out.

    Reference: Nguyen et al., "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021, arXiv:2010.15327; Song et
    al., "Feature Selection via Dependence Maximization", JMLR 2012.
    """

    full_state_update = False

    cross: Tensor
    student: Tensor
    teacher: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("cross", "student", "teacher"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Take in features ``(B, ...)`` of the same samples."""
        if student.shape[0] < _SMALLEST_BATCH:
            return
        left, right = _gram(student), _gram(teacher)
        self.cross += unbiased_hsic(left, right)
        self.student += unbiased_hsic(left, left)
        self.teacher += unbiased_hsic(right, right)

    def compute(self) -> Tensor:
        """The alignment, at most 1; NaN if no batch was large enough or a representation is constant."""
        return (self.cross / (self.student * self.teacher).sqrt()).float()


def unbiased_hsic(left: Tensor, right: Tensor) -> Tensor:
    """Unbiased estimate of the Hilbert-Schmidt independence criterion.

    Args:
        left: kernel matrix with a zero diagonal, ``(N, N)`` with ``N >= 4``.
        right: kernel matrix with a zero diagonal, ``(N, N)``.

    Returns:
        Scalar; may be negative.
    """
    n = left.shape[0]
    trace = (left * right).sum()
    sums = left.sum() * right.sum() / ((n - 1) * (n - 2))
    mixed = (left.sum(0) * right.sum(0)).sum() * 2 / (n - 2)
    return (trace + sums - mixed) / (n * (n - 3))


def _gram(features: Tensor) -> Tensor:
    flat = features.flatten(1).double()
    # HSIC does not see a shift, but rounding does
    flat = flat - flat.mean(0)
    gram: Tensor = flat @ flat.mT
    return gram.fill_diagonal_(0)
