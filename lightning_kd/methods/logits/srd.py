"""SRD, the simple recipe: batch-normalised embeddings behind a linear projector, compared by a log-sum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.linear_projector import LinearProjector
from lightning_kd.connectors.maps import pooled
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.logits.kd import kd_loss


def srd_loss(student_features: Tensor, teacher_features: Tensor, exponent: float = 4.0) -> Tensor:
    r"""Log-sum distance of batch-normalised embeddings.

    .. math:: \log \sum_{b,d} \big|\mathrm{BN}(f^s)_{b,d} - \mathrm{BN}(f^t)_{b,d}\big|^{\alpha}

    The batch normalisation has no affine part and uses the batch's own statistics on both sides. The logarithm softens
    the pull of large differences; it has no lower bound, and the gradient is zero once the embeddings agree exactly.

    Args:
        student_features: projected student embeddings, ``(B, D)`` with ``B >= 2``.
        teacher_features: teacher embeddings of the same shape; no gradient flows into them.
        exponent: :math:`\alpha`.

    Returns:
        Scalar, at least float32. It is a sum over batch and dimensions, so the batch size shifts it by a constant.

    Raises:
        ValueError: if the shapes differ, there are fewer than two samples, or the exponent is below one.

    Reference: Miles and Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", AAAI 2024,
    arXiv:2303.11098.
    """
    if student_features.shape != teacher_features.shape or student_features.dim() != 2:
        raise ValueError(
            f"expected two embeddings (B, D) of one shape, got {tuple(student_features.shape)} and "
            f"{tuple(teacher_features.shape)}; project the student's embedding first"
        )
    if len(student_features) < 2:
        raise ValueError(
            "srd_loss normalises over the batch and needs at least 2 samples, got 1; raise the batch size, or set "
            "drop_last=True if only the last batch is that small"
        )
    if exponent < 1:
        raise ValueError(f"exponent must be at least 1, got {exponent}")
    difference = (_normalized(student_features) - _normalized(teacher_features.detach())).abs()
    distance = difference.pow(exponent).sum()
    return distance.clamp_min(torch.finfo(distance.dtype).tiny).log()


def _normalized(features: Tensor) -> Tensor:
    return F.batch_norm(at_least_float32(features), None, None, training=True)


class SRD(DistillationMethod):
    """Twice :func:`srd_loss` on the embeddings, behind a linear projector, plus KL of the logits at temperature 1.

    Args:
        exponent: exponent of the differences.
        feature_weight: factor of the embeddings' term.
        logit_weight: factor of the logits' term, :func:`kd_loss` at ``T = 1``.
        layers: which embeddings to compare; maps and tokens are averaged.
        weight: factor in the total loss, beside ``task_weight=1``.
    """

    citation = Citation(
        "Understanding the Role of the Projector in Knowledge Distillation",
        "Miles and Mikolajczyk",
        "AAAI",
        2024,
        "2303.11098",
    )
    aliases = ("SRDLoss", "SimpleRecipeDistillation")

    def __init__(
        self,
        exponent: float = 4.0,
        feature_weight: float = 2.0,
        logit_weight: float = 1.0,
        layers: Layers = "penultimate",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        if exponent < 1:
            raise ValueError(f"exponent must be at least 1, got {exponent}")
        self.exponent, self.feature_weight, self.logit_weight = exponent, feature_weight, logit_weight
        self.projectors = nn.ModuleList()

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The deepest stage."""
        return pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Create one projector a pair; it is trained even where the widths agree, which is the paper's point."""
        pairs = zip(self.student_features(context.exchange), self.teacher_features(context.exchange), strict=True)
        self.projectors = nn.ModuleList(
            LinearProjector(pooled(student).shape[-1], pooled(teacher).shape[-1]) for student, teacher in pairs
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`srd_loss`."""
        loss = self.logit_weight * kd_loss(exchange.student.logits, exchange.teacher.logits, temperature=1.0)
        layers = zip(self.projectors, self.student_features(exchange), self.teacher_features(exchange), strict=True)
        for projector, student, teacher in layers:
            distance = srd_loss(projector(pooled(student)), pooled(teacher), self.exponent)
            loss = loss + self.feature_weight * distance
        return loss
