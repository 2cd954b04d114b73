"""Relational Knowledge Distillation: keep the distances and the angles between the samples of a batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import full_precision
from lightning_kd.methods.relations._embeddings import check_same_batch, embedding, raised, safe_lengths

_CHUNK_ELEMENTS = 2**21


def rkd_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
) -> Tensor:
    r"""Distance-wise and angle-wise relational loss.

    .. math::
        w_d\,\mathrm{mean}_{ij}\,\ell(d^s_{ij}/\bar d^s,\; d^t_{ij}/\bar d^t)
        + w_a\,\mathrm{mean}_{ijk}\,\ell(\cos\angle^s_{ijk},\; \cos\angle^t_{ijk})

    with the Huber loss :math:`\ell` (threshold 1), pairwise distances divided by the mean of the positive ones, and
    the angle at sample ``i`` between the directions to ``j`` and ``k``. The means run over all ``B**2`` pairs and
    ``B**3`` triplets, degenerate ones included, as in the authors' code.

    The angle term visits a few anchors at a time and keeps only their gradient, so its memory does not grow with
    ``B**3`` or ``B**2 D``. The price: the gradient cannot be differentiated again.

    Args:
        student_features: embeddings, ``(B, D_s)``.
        teacher_features: embeddings, ``(B, D_t)``; no gradient flows into them.
        distance_weight: weight of the distance term.
        angle_weight: weight of the angle term.

    Returns:
        Scalar, at least float32; zero for a batch of one, which has no relations.

    Raises:
        ValueError: if the shapes are not two batches of embeddings.

    Reference: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068.

    >>> import torch
    >>> features = torch.randn(8, 16)
    >>> rkd_loss(features, 3 * features).item() < 1e-6
    True
    """
    check_same_batch(student_features, teacher_features)
    student, teacher = raised(student_features, teacher_features)
    with full_precision(student):
        loss = student.new_zeros(())
        if distance_weight:
            distances = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))
            loss = loss + distance_weight * distances
        if angle_weight:
            loss = loss + angle_weight * _angle_term(student, teacher)
        return loss


def _relative_distances(features: Tensor) -> Tensor:
    # cdist's own gradient is zero between coincident samples, where sqrt's would be infinite
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp_min(1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _angle_term(student: Tensor, teacher: Tensor) -> Tensor:
    batch = student.shape[0]
    widest = max(batch, student.shape[1], teacher.shape[1])
    chunk = max(1, _CHUNK_ELEMENTS // (batch * widest))
    term: Tensor = _AngleHuber.apply(student, teacher, chunk)
    return term


def _directions(features: Tensor, anchors: slice) -> tuple[Tensor, Tensor]:
    """Unit vectors from each anchor to every sample ``(A, B, D)``, and the distances they were divided by."""
    differences = features.unsqueeze(0) - features[anchors].unsqueeze(1)
    lengths = safe_lengths(differences)
    return differences / lengths, lengths


class _AngleHuber(torch.autograd.Function):
    """Mean Huber loss between the cosines of all angles, with the gradient taken chunk by chunk in the forward."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, chunk: int) -> Tensor:
        batch = student.shape[0]
        total = student.new_zeros(())
        gradient = torch.zeros_like(student)
        for start in range(0, batch, chunk):
            anchors = slice(start, min(start + chunk, batch))
            units, distances = _directions(student, anchors)
            teacher_units, _ = _directions(teacher, anchors)
            residual = units @ units.mT - teacher_units @ teacher_units.mT
            size = residual.abs()
            total += torch.where(size < 1, 0.5 * residual * residual, size - 0.5).sum()
            if ctx.needs_input_grad[0]:
                # the cosine matrix is symmetric, so both of its factors receive the same gradient
                to_units = 2 * (residual.clamp(-1, 1) @ units)
                to_differences = (to_units - units * (units * to_units).sum(-1, keepdim=True)) / distances
                gradient += to_differences.sum(0)
                gradient[anchors] -= to_differences.sum(1)
        ctx.save_for_backward(gradient / batch**3)
        return total / batch**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


class RKD(DistillationMethod):
    """:func:`rkd_loss` between the penultimate embeddings of student and teacher.

    Args:
        distance_weight: weight of the distance term.
        angle_weight: weight of the angle term.
        layers: which layers to compare; maps are average-pooled.
        weight: factor in the total loss; the published recipe uses 1 with the full task loss.

    Under DDP the relations are those within each rank's batch.
    """

    citation = Citation("Relational Knowledge Distillation", "Park et al.", "CVPR", 2019, "1904.05068")
    aliases = ("RKDLoss",)
    needs_teacher_output = False

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        layers: Layers = "penultimate",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        if distance_weight < 0 or angle_weight < 0:
            raise ValueError(f"the term weights must not be negative, got {distance_weight} and {angle_weight}")
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`rkd_loss`; several pairs of layers are summed."""
        pairs = zip(self.student_features(exchange), self.teacher_features(exchange), strict=True)
        terms = [
            rkd_loss(embedding(student), embedding(teacher), self.distance_weight, self.angle_weight)
            for student, teacher in pairs
        ]
        return torch.stack(terms).sum()
