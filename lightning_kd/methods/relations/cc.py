"""Correlation Congruence: the relation between two samples is the same for student and teacher."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_kd.connectors.linear_projector import LinearProjector
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, full_precision
from lightning_kd.methods.relations._embeddings import check_same_batch, embedding, raised, unit_rows

Mode = Literal["consecutive", "kernel"]


def correlation_congruence_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    mode: Mode = "consecutive",
    gamma: float = 0.4,
    order: int = 2,
) -> Tensor:
    r"""Correlation congruence loss.

    The code that stands behind the published CIFAR-100 numbers compares each sample with the next one of the batch,
    the paper compares all pairs by a Gaussian kernel, expanded to a polynomial:

    .. math::
        \text{consecutive: } \tfrac{1}{B-1}\sum_{i}\big\langle |\delta_i|, |\delta_{i+1}| \big\rangle,\;
        \delta = f^s - f^t \qquad
        \text{kernel: } \tfrac{1}{B^2}\,\|K(f^s) - K(f^t)\|_F^2,\;
        K_{ij} = e^{-2\gamma}\sum_{p=0}^{P} \tfrac{(2\gamma)^p}{p!}\,\langle \hat f_i, \hat f_j\rangle^p

    The first compares coordinates and so depends on the order of the batch and needs equal widths; the second is
    free of both.

    Args:
        student_features: embeddings, ``(B, D_s)``.
        teacher_features: embeddings, ``(B, D_t)``; no gradient flows into them.
        mode: ``"consecutive"`` (the code) or ``"kernel"`` (the paper).
        gamma: width of the kernel.
        order: highest power ``P`` of the expansion.

    Returns:
        Scalar, at least float32; zero for a batch of one.

    Raises:
        ValueError: if the shapes do not fit or the mode is unknown.

    Reference: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, arXiv:1904.01802.

    >>> import torch
    >>> features = torch.randn(8, 16)
    >>> correlation_congruence_loss(features, features).item()
    0.0
    """
    _check_mode(mode)
    check_same_batch(student_features, teacher_features, same_width=mode == "consecutive")
    student, teacher = raised(student_features, teacher_features)
    return _congruence(student, teacher, mode, gamma, order)


def _congruence(student: Tensor, teacher: Tensor, mode: Mode, gamma: float, order: int) -> Tensor:
    if mode == "consecutive":
        gap = (student - teacher).abs()
        return (gap[:-1] * gap[1:]).sum() / max(gap.shape[0] - 1, 1)
    with full_precision(student):
        return (_kernel(student, gamma, order) - _kernel(teacher, gamma, order)).square().mean()


def _kernel(features: Tensor, gamma: float, order: int) -> Tensor:
    units = unit_rows(features)
    cosine = units @ units.mT
    coefficients = [math.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power) for power in range(order + 1)]
    # Horner's scheme: no power of zero, whose gradient would need care
    kernel = torch.full_like(cosine, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        kernel = kernel * cosine + coefficient
    return kernel


def _check_mode(mode: str) -> None:
    if mode not in ("consecutive", "kernel"):
        raise ValueError(f'mode must be "consecutive" (the code) or "kernel" (the paper), got {mode!r}')


class CC(DistillationMethod):
    """:func:`correlation_congruence_loss` between linear embeddings of both penultimate features.

    As in the published code, the teacher's embedding is trained together with the student's.

    Args:
        embedding_dim: width of both embeddings.
        mode: ``"consecutive"`` or ``"kernel"``.
        gamma: width of the kernel.
        order: highest power of the kernel's expansion.
        layers: which layers to compare; maps are average-pooled.
        weight: factor in the total loss; the published recipe uses 0.02 with the full task loss.
    """

    citation = Citation("Correlation Congruence for Knowledge Distillation", "Peng et al.", "ICCV", 2019, "1904.01802")
    aliases = ("Correlation", "CCKDLoss", "CCKD")
    needs_teacher_output = False

    def __init__(
        self,
        embedding_dim: int = 128,
        mode: Mode = "consecutive",
        gamma: float = 0.4,
        order: int = 2,
        layers: Layers = "penultimate",
        weight: Weight = 0.02,
    ) -> None:
        super().__init__(weight, layers)
        _check_mode(mode)
        if order < 1:
            raise ValueError(f"order must be at least 1 (the linear term), got {order}")
        self.embedding_dim, self.gamma, self.order = embedding_dim, gamma, order
        self.mode: Mode = mode
        self.student_embeddings = nn.ModuleList()
        self.teacher_embeddings = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create one linear embedding a side and pair of layers."""
        self.student_embeddings, self.teacher_embeddings = nn.ModuleList(), nn.ModuleList()
        for student, teacher in zip(
            self.student_features(context.exchange), self.teacher_features(context.exchange), strict=True
        ):
            self.student_embeddings.append(LinearProjector(embedding(student).shape[1], self.embedding_dim))
            self.teacher_embeddings.append(LinearProjector(embedding(teacher).shape[1], self.embedding_dim))

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`correlation_congruence_loss`; several pairs of layers are summed."""
        terms = []
        for student, teacher, embed_student, embed_teacher in zip(
            self.student_features(exchange),
            self.teacher_features(exchange),
            self.student_embeddings,
            self.teacher_embeddings,
            strict=True,
        ):
            embedded_student = at_least_float32(embed_student(embedding(student)))
            embedded_teacher = at_least_float32(embed_teacher(embedding(teacher.detach())))
            check_same_batch(embedded_student, embedded_teacher)
            terms.append(_congruence(embedded_student, embedded_teacher, self.mode, self.gamma, self.order))
        return torch.stack(terms).sum()
