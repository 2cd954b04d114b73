"""Overhaul of feature distillation: partial L2 distance to a margin-clipped teacher before its ReLU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_kd.connectors.maps import to_map
from lightning_kd.connectors.stack import conv_norm
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.features._stages import (
    Shape,
    check_same_channels,
    connectors_for,
    matched_maps,
    project,
    total,
)


def ofd_loss(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], margins: Sequence[Tensor]
) -> Tensor:
    r"""Partial :math:`L_2` distance to the margin-ReLU of the teacher.

    With :math:`\hat t = \max(t, m_c)`,

    .. math::
        \sum_{l=1}^L \frac{2^{l-L}}{B} \sum \big[\,s > \hat t \text{ or } \hat t > 0\,\big]\,(s - \hat t)^2

    Args:
        student_features: one map a stage, already projected to the teacher's channels, ``(B, C, H_s, W_s)``.
        teacher_features: one map a stage, before the ReLU; no gradient flows into them. The larger map is
            average-pooled to the smaller.
        margins: one ``(C,)`` a stage, not positive: what stands for the teacher's negative responses.

    Returns:
        Scalar: sum over channels and positions, mean over the batch, at least float32.

    Raises:
        ValueError: if the numbers of stages or channels differ.

    Reference: Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019, arXiv:1904.01866.
    """
    losses = []
    pairs = matched_maps(student_features, teacher_features)
    for (student, teacher), margin in zip(pairs, margins, strict=True):
        check_same_channels(student, teacher, "OFD")
        target = torch.maximum(teacher, margin.detach().to(teacher).view(1, -1, 1, 1))
        counts = (student > target) | (target > 0)
        losses.append(((student - target) * counts).square().sum() / student.shape[0])
    return total([loss * 2.0 ** (index + 1 - len(losses)) for index, loss in enumerate(losses)])


class OFD(DistillationMethod):
    """:func:`ofd_loss` through 1×1 convolutions with batch norm.

    The margin of a channel is the mean of the teacher's negative responses, the paper's definition, measured in one
    pass over the training set. The authors' code derives it from the mean and scale of the batch norm in front,
    assuming a normal distribution, which ties it to networks with such a layer.

    The paper compares features *before* the ReLU. Stage outputs that ``layers="auto"`` finds mostly come after it:
    then no response is negative, margins are zero, and the loss still ignores what both sides do not respond to. To
    follow the paper name the layers in front of the ReLUs, with ``":clone"`` where the ReLU works in place, for example
    ``layers={"layer4.1.bn2:clone": "layer4.2.bn3:clone"}`` for networks without shortcuts at that point.

    The authors' code leaves the teacher in train mode; here its batch norms keep their statistics.

    Args:
        layers: which layers to compare.
        weight: factor in the total loss; 1e-3 is the usual CIFAR-100 value, 1e-4 ImageNet's.
    """

    citation = Citation("A Comprehensive Overhaul of Feature Distillation", "Heo et al.", "ICCV", 2019, "1904.01866")
    aliases = ("OFDLoss", "Overhaul")
    has_setup_pass = True
    needs_teacher_output = False

    def __init__(self, layers: Layers = "auto", weight: Weight = 1e-3) -> None:
        super().__init__(weight, layers)
        self.connectors = nn.ModuleList()
        self._sums: list[Tensor] = []
        self._counts: list[Tensor] = []

    def build(self, context: BuildContext) -> None:
        """Create a connector and a margin for every stage."""
        teacher_features = self.teacher_features(context.exchange)
        self.connectors = connectors_for(self.student_features(context.exchange), teacher_features, _connector)
        for index, feature in enumerate(teacher_features):
            self.register_buffer(f"margin_{index}", torch.zeros(to_map(feature).shape[1]))

    @property
    def margins(self) -> list[Tensor]:
        """One ``(C,)`` a stage."""
        return [self.get_buffer(f"margin_{index}") for index in range(len(self.connectors))]

    def observe(self, exchange: Exchange) -> None:
        """Gather the teacher's negative responses."""
        features = [at_least_float32(to_map(feature)) for feature in self.teacher_features(exchange)]
        sums = [feature.clamp(max=0).sum((0, 2, 3)) for feature in features]
        counts = [(feature < 0).sum((0, 2, 3)) for feature in features]
        self._sums = [old + new for old, new in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._counts = [old + new for old, new in zip(self._counts, counts, strict=True)] if self._counts else counts

    def finish_setup(self) -> None:
        """Turn them into margins; a channel that never responds negatively gets the margin 0."""
        for margin, negative, count in zip(self.margins, self._sums, self._counts, strict=True):
            margin.copy_(negative / count.clamp(min=1))
        self._sums, self._counts = [], []

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`ofd_loss`."""
        student_features = project(self.connectors, self.student_features(exchange))
        return ofd_loss(student_features, self.teacher_features(exchange), self.margins)


def _connector(student: Shape, teacher: Shape) -> nn.Module:
    connector = conv_norm(student[0], teacher[0])
    convolution = connector[0]
    assert isinstance(convolution, nn.Conv2d)
    nn.init.normal_(convolution.weight, 0.0, (2.0 / teacher[0]) ** 0.5)
    return connector
