"""Prime-aware adaptive distillation: a variance for every sample decides how much it counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_kd.connectors.linear_projector import LinearProjector
from lightning_kd.connectors.maps import pooled
from lightning_kd.connectors.stack import Connector, TolerantBatchNorm1d
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32


def pad_l2_loss(student_features: Tensor, teacher_features: Tensor, log_variances: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Squared error scaled by a learned variance.

    .. math:: \mathrm{mean}\Big(\frac{(t - s)^2}{\sigma^2 + \epsilon} + \log \sigma^2\Big)

    Args:
        student_features: embeddings, ``(B, D)``.
        teacher_features: embeddings, ``(B, D)``; no gradient flows into them.
        log_variances: :math:`\log \sigma^2`, ``(B, D)``.
        eps: keeps the division finite.

    Returns:
        Scalar: mean over dimensions and batch, as in the authors' code; at least float32. It may be negative.

    Raises:
        ValueError: if the shapes differ.

    Reference: Zhang et al., "Prime-Aware Adaptive Distillation", ECCV 2020, arXiv:2008.01458.
    """
    if not student_features.shape == teacher_features.shape == log_variances.shape:
        raise ValueError(
            "student features, teacher features and log variances must have the same shape, got "
            f"{tuple(student_features.shape)}, {tuple(teacher_features.shape)} and {tuple(log_variances.shape)}"
        )
    log_variances = at_least_float32(log_variances)
    difference = at_least_float32(teacher_features.detach()) - at_least_float32(student_features)
    return (difference.square() / (eps + log_variances.exp()) + log_variances).mean()


class PADL2(DistillationMethod):
    """:func:`pad_l2_loss` on the classifier's inputs.

    A linear layer with batch norm predicts the log variances from the student's embedding. A student of another width
    is projected linearly (ours; the paper's pairs have equal widths). The paper starts from a student that was trained
    with the plain squared error; here both are trained from the start, unless ``weight`` is a schedule.

    Args:
        eps: keeps the division by the variance finite.
        layers: which layers to compare; features with positions are averaged over them.
        weight: factor in the total loss.
    """

    citation = Citation("Prime-Aware Adaptive Distillation", "Zhang et al.", "ECCV", 2020, "2008.01458")
    aliases = ("PAD", "PADL2Loss")
    needs_teacher_output = False

    def __init__(self, eps: float = 1e-6, layers: Layers = "penultimate", weight: Weight = 1.0) -> None:
        super().__init__(weight, layers)
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.eps = eps
        self.projectors = nn.ModuleList()
        self.variance_branches = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a projector and a variance branch for every pair."""
        for student, teacher in self._embeddings(context.exchange):
            inputs, width = student.shape[1], teacher.shape[1]
            self.projectors.append(Connector() if inputs == width else LinearProjector(inputs, width))
            self.variance_branches.append(Connector(nn.Linear(width, width), TolerantBatchNorm1d(width)))

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`pad_l2_loss`."""
        losses = []
        modules = zip(self.projectors, self.variance_branches, strict=True)
        for (projector, branch), (student, teacher) in zip(modules, self._embeddings(exchange), strict=True):
            embedding = projector(student)
            losses.append(pad_l2_loss(embedding, teacher, branch(embedding), self.eps))
        return torch.stack(losses).sum()

    def _embeddings(self, exchange: Exchange) -> list[tuple[Tensor, Tensor]]:
        features = zip(self.student_features(exchange), self.teacher_features(exchange), strict=True)
        return [(pooled(student), pooled(teacher)) for student, teacher in features]
