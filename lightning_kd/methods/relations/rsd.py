"""Redundancy Suppression Distillation: agree with the teacher dimension by dimension, and not across dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import full_precision
from lightning_kd.methods.relations._embeddings import check_same_batch, embedding, raised

_EPS = 1e-5


def rsd_loss(student_features: Tensor, teacher_features: Tensor, kappa: float = 0.01) -> Tensor:
    r"""Redundancy suppression loss.

    .. math:: \sum_d (1 - C_{dd})^2 + \kappa \sum_{d \ne e} C_{de}^2

    where :math:`C` is the matrix of Pearson correlations, over the batch, between the dimensions of the teacher's and
    the student's embedding.

    Args:
        student_features: embeddings in the teacher's width, ``(B, D)`` with ``B >= 2``.
        teacher_features: embeddings, ``(B, D)``; no gradient flows into them.
        kappa: weight of the decorrelation term.

    Returns:
        Scalar, at least float32: a sum over ``D**2`` entries, so its scale grows with ``D``.

    Raises:
        ValueError: if the shapes differ, or the batch holds one sample, over which there is no correlation.

    Reference: Zhang et al., "Cross-Architecture Distillation Made Simple with Redundancy Suppression", ICCV 2025,
    arXiv:2507.21844.
    """
    check_same_batch(student_features, teacher_features, same_width=True)
    _check_batch(student_features)
    student, teacher = raised(student_features, teacher_features)
    with full_precision(student):
        correlation = _standardised(teacher).mT @ _standardised(student) / student.shape[0]
        diagonal = correlation.diagonal()
        off_diagonal = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + kappa * off_diagonal


def _check_batch(features: Tensor) -> None:
    if features.shape[0] < 2:
        raise ValueError(
            "the RSD loss correlates over the batch and needs at least two samples, got one; set `drop_last=True` in "
            "the training dataloader or choose a batch size that leaves no single sample over"
        )


def _standardised(features: Tensor) -> Tensor:
    centred: Tensor = features - features.mean(0)
    # vector_norm has a zero gradient where a dimension is constant, unlike the square root in std
    deviation: Tensor = torch.linalg.vector_norm(centred, dim=0) / math.sqrt(features.shape[0])
    return centred / (deviation + _EPS)


class RSD(DistillationMethod):
    """:func:`rsd_loss` between the penultimate embeddings, the student's through a two-layer adaptor.

    The adaptor (linear, batch norm, GELU, linear; no biases) keeps the objective from reshaping the student itself and
    is thrown away after training. We could verify neither its width nor the weight of the loss against the paper, so
    both defaults are ours: the weight brings the term to about the size of a cross-entropy.

    Args:
        kappa: weight of the decorrelation term.
        expansion: width of the adaptor's hidden layer, as a multiple of the student's width.
        layers: which layers to compare; maps and tokens are averaged.
        weight: factor in the total loss.
    """

    citation = Citation(
        "Cross-Architecture Distillation Made Simple with Redundancy Suppression",
        "Zhang et al.",
        "ICCV",
        2025,
        "2507.21844",
    )
    needs_teacher_output = False

    def __init__(
        self, kappa: float = 0.01, expansion: int = 2, layers: Layers = "penultimate", weight: Weight = 0.01
    ) -> None:
        super().__init__(weight, layers)
        if kappa < 0 or expansion < 1:
            raise ValueError(f"kappa must not be negative and expansion at least 1, got {kappa} and {expansion}")
        self.kappa, self.expansion = kappa, expansion
        self.adaptors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create one adaptor a pair of layers."""
        pairs = zip(self.student_features(context.exchange), self.teacher_features(context.exchange), strict=True)
        self.adaptors = nn.ModuleList(
            _adaptor(embedding(student).shape[1], embedding(teacher).shape[1], self.expansion)
            for student, teacher in pairs
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`rsd_loss`; several pairs of layers are summed."""
        terms = []
        for student, teacher, adaptor in zip(
            self.student_features(exchange), self.teacher_features(exchange), self.adaptors, strict=True
        ):
            # before the adaptor, whose batch norm refuses a batch of one in its own words
            _check_batch(student)
            adapted = adaptor(like_parameters(embedding(student), adaptor))
            terms.append(rsd_loss(adapted, embedding(teacher), self.kappa))
        return torch.stack(terms).sum()


def _adaptor(student_dim: int, teacher_dim: int, expansion: int) -> nn.Sequential:
    hidden = expansion * student_dim
    return nn.Sequential(
        nn.Linear(student_dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        nn.Linear(hidden, teacher_dim, bias=False),
    )
