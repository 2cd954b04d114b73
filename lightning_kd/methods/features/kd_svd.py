"""KD-SVD: match how the main directions of the features change from stage to stage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.stack import channel_adapter
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import full_precision
from lightning_kd.methods.features._stages import check_same_channels, connectors_for, project, stage_maps, total

# The student offers more vectors than the teacher uses: its order of singular values may differ.
_EXTRA_VECTORS = 3
_RBF_WIDTH = 8.0


def kd_svd_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], k: int = 1) -> Tensor:
    r"""Squared difference of radial basis functions between the singular vectors of consecutive stages.

    Every map, as a matrix of positions by channels, gives its leading right singular vectors, the teacher's ``k``, the
    student's ``k + 3``. Each teacher vector is compared with the student vector of the largest absolute cosine, its
    sign aligned, both scaled by the teacher's singular values (normalised to unit length). With
    :math:`\varphi_l[i, j] = \exp(-(v_{l+1,i} - v_{l,j})^2 / 8)` over the channels of both stages,

    .. math:: \sum_l \tfrac1B \sum \big(\varphi^s_l - \varphi^t_l\big)^2

    These are the semantics of RepDistiller, which follow the paper. Another public re-implementation flattens
    ``(B, C·H, W)`` instead of ``(B, H·W, C)``: a different loss.

    Degenerate singular values, as dead channels produce, have no gradient of their own; the terms that would divide by
    zero are left out.

    Args:
        student_features: at least two stages, ``(B, C, H_s, W_s)`` or tokens ``(B, N, D)``.
        teacher_features: the same numbers of channels; no gradient flows into them. Sizes may differ.
        k: number of singular vectors.

    Returns:
        Scalar: mean over the batch, sum over the stages, at least float32.

    Raises:
        ValueError: for fewer than two stages, different numbers of stages or channels, or ``k < 1``.

    Reference: Lee et al., "Self-supervised Knowledge Distillation Using Singular Value Decomposition", ECCV 2018.
    """
    if k < 1:
        raise ValueError(f"k must be a positive number of singular vectors, got {k}")
    pairs = list(stage_maps(student_features, teacher_features))
    if len(pairs) < 2:
        raise ValueError(f"KD-SVD compares consecutive stages and needs at least two, got {len(pairs)}")
    aligned = [_aligned_vectors(student, teacher, k) for student, teacher in pairs]
    losses = []
    for (student, teacher), (next_student, next_teacher) in itertools.pairwise(aligned):
        difference = _rbf(next_student, student) - _rbf(next_teacher, teacher)
        losses.append(difference.square().sum((1, 2, 3)).mean())
    return total(losses)


def _aligned_vectors(student: Tensor, teacher: Tensor, k: int) -> tuple[Tensor, Tensor]:
    check_same_channels(student, teacher, "KD-SVD")
    with full_precision(student):
        matrix = teacher.flatten(2).transpose(1, 2)
        _, values, vectors = torch.linalg.svd(matrix, full_matrices=False)
        teacher_vectors = vectors[:, :k].transpose(1, 2)
        scale = F.normalize(values[:, :k], dim=1)[:, None]
        student_vectors = _right_singular_vectors(student.flatten(2).transpose(1, 2), k + _EXTRA_VECTORS)
        cosine = student_vectors.detach().transpose(1, 2) @ teacher_vectors
        best = cosine.abs().argmax(1, keepdim=True)
        signs = cosine.gather(1, best).sign()
        chosen = student_vectors.gather(2, best.expand(-1, student_vectors.shape[1], -1)) * signs
    return chosen * scale, teacher_vectors * scale


def _rbf(following: Tensor, previous: Tensor) -> Tensor:
    basis: Tensor = torch.exp((following.unsqueeze(2) - previous.unsqueeze(1)).square() / -_RBF_WIDTH)
    return basis


class _RightSingularVectors(torch.autograd.Function):
    """Leading right singular vectors with a gradient that stays finite for repeated singular values."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, count: int) -> Tensor:
        _, values, vectors = torch.linalg.svd(matrix, full_matrices=False)
        basis: Tensor = vectors.transpose(1, 2)
        ctx.save_for_backward(matrix, values, basis)
        return basis[..., :count].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        matrix, values, basis = ctx.saved_tensors
        gradient = gradients[0]
        leading = basis[..., : gradient.shape[2]]
        squares = values.square()
        tolerance = squares[:, :1, None] * 10 * torch.finfo(squares.dtype).eps
        inside = basis.transpose(1, 2) @ gradient
        gaps = squares[:, None, : gradient.shape[2]] - squares[:, :, None]
        outside = gradient - basis @ inside
        outside = outside * _safe_inverse(squares[:, None, : gradient.shape[2]], tolerance)
        turned = basis @ (inside * _safe_inverse(gaps, tolerance)) + outside
        # from left to right: the product of the two bases would be a square of the channels
        return matrix @ turned @ leading.transpose(1, 2) + matrix @ leading @ turned.transpose(1, 2), None


def _safe_inverse(values: Tensor, tolerance: Tensor) -> Tensor:
    degenerate = values.abs() <= tolerance
    return values.masked_fill(degenerate, 1.0).reciprocal().masked_fill(degenerate, 0.0)


def _right_singular_vectors(matrix: Tensor, count: int) -> Tensor:
    vectors: Tensor = _RightSingularVectors.apply(matrix, count)
    return vectors


class KDSVD(DistillationMethod):
    """:func:`kd_svd_loss` over the stages.

    A stage of another width goes through a 1×1 convolution first (ours; the paper's pairs have equal widths).

    Args:
        k: number of singular vectors.
        layers: which layers to compare, from the shallowest to the deepest.
        weight: factor in the total loss.
    """

    citation = Citation(
        "Self-supervised Knowledge Distillation Using Singular Value Decomposition", "Lee et al.", "ECCV", 2018
    )
    aliases = ("KD-SVD", "SVD")
    needs_teacher_output = False

    def __init__(self, k: int = 1, layers: Layers = "auto", weight: Weight = 1.0) -> None:
        super().__init__(weight, layers)
        if k < 1:
            raise ValueError(f"k must be a positive number of singular vectors, got {k}")
        self.k = k
        self.connectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a connector for every stage."""
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: channel_adapter(student[0], teacher[0]),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`kd_svd_loss`."""
        student_features = project(self.connectors, self.student_features(exchange))
        return kd_svd_loss(student_features, self.teacher_features(exchange), self.k)
