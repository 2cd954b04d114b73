"""Probabilistic Knowledge Transfer: match who is near whom, as a conditional distribution over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import full_precision
from lightning_kd.methods.relations._embeddings import check_same_batch, embedding, raised

_EPS = 1e-7


def pkt_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Divergence between the neighbourhoods of two embeddings.

    .. math:: \mathrm{mean}_{ij}\; P^t_{ij}\log\frac{P^t_{ij}+\varepsilon}{P^s_{ij}+\varepsilon}, \qquad
        P_{ij} = \frac{1+\cos(f_i, f_j)}{\sum_k 1+\cos(f_i, f_k)}

    The mean runs over all ``B**2`` entries, as in the authors' code, which is why the published weight is 30,000. The
    ``ε`` of 1e-7 belongs to the definition: opposite embeddings have probability zero, so there is no log form
    without it.

    Args:
        student_features: embeddings, ``(B, D_s)``.
        teacher_features: embeddings, ``(B, D_t)``; no gradient flows into them.

    Returns:
        Scalar, at least float32; zero for a batch of one.

    Raises:
        ValueError: if the shapes are not two batches of embeddings.

    Reference: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
    arXiv:1803.10837.

    >>> import torch
    >>> features = torch.randn(8, 16)
    >>> abs(pkt_loss(features, features).item()) < 1e-6
    True
    """
    check_same_batch(student_features, teacher_features)
    student, teacher = raised(student_features, teacher_features)
    with full_precision(student):
        student, teacher = _neighbourhoods(student), _neighbourhoods(teacher)
        return (teacher * ((teacher + _EPS) / (student + _EPS)).log()).mean()


def _neighbourhoods(features: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    units = features / torch.where(norm > 0, norm + _EPS, 1.0)
    # rounding can push a cosine below -1, where the logarithm would lose its guard
    similarity = (units @ units.mT).clamp_min(-1.0) + 1
    return similarity / similarity.sum(1, keepdim=True)


class PKT(DistillationMethod):
    """:func:`pkt_loss` between the penultimate embeddings of student and teacher.

    Args:
        layers: which layers to compare; maps are average-pooled.
        weight: factor in the total loss; the published recipe uses 30,000 with the full task loss.

    Under DDP the neighbours are those within each rank's batch.
    """

    citation = Citation(
        "Learning Deep Representations with Probabilistic Knowledge Transfer",
        "Passalis and Tefas",
        "ECCV",
        2018,
        "1803.10837",
    )
    aliases = ("PKTLoss", "PKTCosSim")
    needs_teacher_output = False

    def __init__(self, layers: Layers = "penultimate", weight: Weight = 30_000.0) -> None:
        super().__init__(weight, layers)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`pkt_loss`; several pairs of layers are summed."""
        pairs = zip(self.student_features(exchange), self.teacher_features(exchange), strict=True)
        return torch.stack([pkt_loss(embedding(student), embedding(teacher)) for student, teacher in pairs]).sum()
