"""Similarity-Preserving distillation: samples that the teacher activates alike, the student activates alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import check_same_stages, full_precision
from lightning_kd.methods.relations._embeddings import raised, unit_rows

Mode = Literal["paper", "l1"]


def similarity_preserving_loss(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], mode: Mode = "paper"
) -> Tensor:
    r"""Similarity-preserving loss, summed over stages.

    .. math:: \frac{1}{B^2}\,\|\tilde G^s - \tilde G^t\|_F^2, \qquad G = F F^\top,\; F \in \mathbb{R}^{B \times CHW}

    with every row of :math:`G` scaled to unit length.

    One re-implementation (torchdistill up to 1.1.5) passes ``1`` where the order of the norm belongs and so divides
    rows by their L1 norm; the loss is smaller there and its weight not comparable. ``mode="l1"`` reproduces it.

    Args:
        student_features: stages, each ``(B, ...)``; flattened.
        teacher_features: stages, each ``(B, ...)`` of any size; no gradient flows into them.
        mode: ``"paper"`` for L2 rows, ``"l1"`` for L1 rows.

    Returns:
        Scalar, at least float32; zero for a batch of one.

    Raises:
        ValueError: if the numbers of stages or the batch sizes differ, or the mode is unknown.

    Reference: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682.

    >>> import torch
    >>> features = [torch.randn(8, 16, 4, 4)]
    >>> similarity_preserving_loss(features, features).item()
    0.0
    """
    check_same_stages(list(student_features), list(teacher_features))
    _check_mode(mode)
    terms = []
    for student, teacher in zip(student_features, teacher_features, strict=True):
        if student.shape[0] != teacher.shape[0]:
            raise ValueError(
                f"expected features of the same samples, got batches of {student.shape[0]} and {teacher.shape[0]}"
            )
        student, teacher = raised(student, teacher)
        with full_precision(student):
            terms.append((_similarities(student, mode) - _similarities(teacher, mode)).square().mean())
    return torch.stack(terms).sum()


def _similarities(features: Tensor, mode: Mode) -> Tensor:
    flat = features.flatten(1)
    gram = flat @ flat.mT
    if mode == "paper":
        return unit_rows(gram)
    total = gram.abs().sum(1, keepdim=True)
    return gram / torch.where(total > 0, total, 1.0)


def _check_mode(mode: Mode) -> None:
    if mode not in ("paper", "l1"):
        raise ValueError(f'mode must be "paper" (L2 rows) or "l1", got {mode!r}')


class SP(DistillationMethod):
    """:func:`similarity_preserving_loss`, by default between the outputs of the last stage.

    Args:
        mode: normalisation of the similarity rows.
        layers: which layers to compare. ``"auto"`` takes the last stage only, as the published recipe does.
        weight: factor in the total loss; the published recipe uses 3,000 with the full task loss.

    Under DDP the similarities are those within each rank's batch.
    """

    citation = Citation("Similarity-Preserving Knowledge Distillation", "Tung and Mori", "ICCV", 2019, "1907.09682")
    aliases = ("Similarity", "SPKDLoss", "SPKD")
    needs_teacher_output = False

    def __init__(self, mode: Mode = "paper", layers: Layers = "auto", weight: Weight = 3_000.0) -> None:
        super().__init__(weight, layers)
        _check_mode(mode)
        self.mode: Mode = mode

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last stage."""
        return pairs[-1:]

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`similarity_preserving_loss`."""
        return similarity_preserving_loss(self.student_features(exchange), self.teacher_features(exchange), self.mode)
