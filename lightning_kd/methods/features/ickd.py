"""ICKD: match how the channels correlate with one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.stack import conv_norm
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import full_precision
from lightning_kd.methods.features._stages import check_same_channels, connectors_for, project, stage_maps, total


def ickd_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    r"""Squared difference of the row-normalised Gram matrices of the channels.

    With :math:`G = F F^\top` over the positions and :math:`\hat G` its rows of unit length,

    .. math:: \sum_l \frac1{B C} \sum_b \|\hat G^s_l - \hat G^t_l\|_F^2

    This is the authors' CIFAR-100 code. Their ImageNet code, and what builds on it, divides by the batch size once
    more.

    Args:
        student_features: one map a stage, ``(B, C, H_s, W_s)`` or tokens ``(B, N, D)``.
        teacher_features: the same numbers of channels; no gradient flows into them. Sizes may differ.

    Returns:
        Scalar: mean over batch and channels, sum over the stages, at least float32.

    Raises:
        ValueError: if the numbers of stages or channels differ.

    Reference: Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation", ICCV
    2021, arXiv:2202.03680.
    """
    losses = []
    for student, teacher in stage_maps(student_features, teacher_features):
        check_same_channels(student, teacher, "ICKD")
        difference = _correlation(student) - _correlation(teacher)
        losses.append(difference.square().sum() / (student.shape[0] * student.shape[1]))
    return total(losses)


def _correlation(feature: Tensor) -> Tensor:
    channels = feature.flatten(2)
    with full_precision(channels):
        return F.normalize(channels @ channels.transpose(1, 2), dim=2)


class ICKD(DistillationMethod):
    """:func:`ickd_loss` on the last stage, the student's through a 1×1 convolution with batch norm.

    Args:
        layers: which layers to compare.
        weight: factor in the total loss; 2.5 is the authors' CIFAR-100 value.
    """

    citation = Citation(
        "Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation",
        "Liu et al.",
        "ICCV",
        2021,
        "2202.03680",
    )
    aliases = ("ICKDLoss", "ChSimLoss", "InterChannelCorrelation")
    needs_teacher_output = False

    def __init__(self, layers: Layers = "auto", weight: Weight = 2.5) -> None:
        super().__init__(weight, layers)
        self.connectors = nn.ModuleList()

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last stage."""
        return pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Create a connector for every stage."""
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: conv_norm(student[0], teacher[0]),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`ickd_loss`."""
        return ickd_loss(project(self.connectors, self.student_features(exchange)), self.teacher_features(exchange))
