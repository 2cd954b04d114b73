"""Flow of the solution procedure: match how the features change from one stage to the next."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import pool_to_smaller
from lightning_kd.connectors.stack import channel_adapter
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import full_precision
from lightning_kd.methods.features._stages import check_same_channels, connectors_for, project, stage_maps, total


def fsp_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    r"""Squared difference of the FSP matrices of consecutive stages.

    .. math::
        G_l = \tfrac1{HW} F_l F_{l+1}^\top \in \mathbb R^{C_l \times C_{l+1}} \qquad
        \mathcal L = \sum_l \mathrm{mean}\big((G^s_l - G^t_l)^2\big)

    The larger map of two consecutive stages is average-pooled to the smaller. The paper sums over the entries of a
    matrix; the mean is what the re-implementations and the published CIFAR-100 tables use.

    Args:
        student_features: at least two stages, ``(B, C_l, H_l, W_l)`` or tokens ``(B, N, D)``.
        teacher_features: the same numbers of channels; no gradient flows into them. Sizes may differ.

    Returns:
        Scalar, at least float32.

    Raises:
        ValueError: for fewer than two stages, or different numbers of stages or channels.

    Reference: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
    Learning", CVPR 2017.
    """
    stages = list(stage_maps(student_features, teacher_features))
    if len(stages) < 2:
        raise ValueError(f"FSP compares consecutive stages and needs at least two, got {len(stages)}; name more layers")
    for student, teacher in stages:
        check_same_channels(student, teacher, "FSP")
    losses = []
    for (student, teacher), (next_student, next_teacher) in itertools.pairwise(stages):
        losses.append(F.mse_loss(_flow(student, next_student), _flow(teacher, next_teacher)))
    return total(losses)


def _flow(feature: Tensor, following: Tensor) -> Tensor:
    feature, following = (value.flatten(2) for value in pool_to_smaller(feature, following))
    with full_precision(feature):
        return feature @ following.transpose(1, 2) / feature.shape[2]


class FSP(DistillationMethod):
    """:func:`fsp_loss` over the stages.

    The paper needs equal widths and refuses others. Here a stage of another width goes through a 1×1 convolution first
    (ours, not the paper's), so that any pair of networks works; equal widths have no connector.

    The paper uses it to initialise the student, before the task loss: give ``weight`` and ``task_weight`` schedules for
    that. By default both losses are trained together.

    Args:
        layers: which layers to compare, from the shallowest to the deepest.
        weight: factor in the total loss; the usual CIFAR-100 value is 50.
    """

    citation = Citation(
        "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning",
        "Yim et al.",
        "CVPR",
        2017,
    )
    aliases = ("FSPLoss",)
    needs_teacher_output = False

    def __init__(self, layers: Layers = "auto", weight: Weight = 50.0) -> None:
        super().__init__(weight, layers)
        self.connectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a connector for every stage."""
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: channel_adapter(student[0], teacher[0]),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`fsp_loss`."""
        return fsp_loss(project(self.connectors, self.student_features(exchange)), self.teacher_features(exchange))
