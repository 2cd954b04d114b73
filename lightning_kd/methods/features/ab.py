"""Activation boundaries: whether a neuron fires matters more than how much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_kd.connectors.stack import conv_norm
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.features._stages import (
    check_same_channels,
    connectors_for,
    matched_maps,
    project,
    total,
)


def activation_boundary_loss(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], margin: float = 1.0
) -> Tensor:
    r"""Squared hinge that pushes every student neuron to the teacher's side of its activation boundary.

    .. math::
        \sum_{l=1}^L \frac{2^{l-L}}{B} \sum \big[t > 0\big]\,\max(m - s, 0)^2 + \big[t \le 0\big]\,\max(m + s, 0)^2

    Args:
        student_features: one map a stage, before the activation, ``(B, C, H_s, W_s)`` or tokens ``(B, N, D)``.
        teacher_features: the same numbers of channels; no gradient flows into them. Only the signs count, so features
            before and after a ReLU give the same loss. The larger map is average-pooled to the smaller.
        margin: distance ``m`` from the boundary that is wanted.

    Returns:
        Scalar: sum over channels and positions, mean over the batch, at least float32.

    Raises:
        ValueError: if the numbers of stages or channels differ, or the margin is negative.

    Reference: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons",
    AAAI 2019, arXiv:1811.03233.
    """
    if margin < 0:
        raise ValueError(f"margin must not be negative, got {margin}")
    losses = []
    for student, teacher in matched_maps(student_features, teacher_features):
        check_same_channels(student, teacher, "AB")
        signs = torch.where(teacher > 0, -1.0, 1.0).to(student)
        losses.append((margin + signs * student).relu().square().sum() / student.shape[0])
    return total([loss * 2.0 ** (index + 1 - len(losses)) for index, loss in enumerate(losses)])


class AB(DistillationMethod):
    """:func:`activation_boundary_loss` through 1×1 convolutions with batch norm.

    The connectors give the student's side negative values even where its stages end in a ReLU. The public
    re-implementation skips the connector for equal shapes.

    The paper trains the student with this loss alone first, then with the task loss alone: give ``weight`` and
    ``task_weight`` schedules for that. By default both are trained together.

    Args:
        margin: distance from the boundary that is wanted.
        layers: which layers to compare.
        weight: factor in the total loss; the authors divide the sum by 1000 and multiply by 3.
    """

    citation = Citation(
        "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons",
        "Heo et al.",
        "AAAI",
        2019,
        "1811.03233",
    )
    aliases = ("ABLoss", "AltActTransferLoss", "DAB")
    needs_teacher_output = False

    def __init__(self, margin: float = 1.0, layers: Layers = "auto", weight: Weight = 3e-3) -> None:
        super().__init__(weight, layers)
        self.margin = margin
        self.connectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a connector for every stage."""
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: conv_norm(student[0], teacher[0]),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`activation_boundary_loss`."""
        student_features = project(self.connectors, self.student_features(exchange))
        return activation_boundary_loss(student_features, self.teacher_features(exchange), self.margin)
