"""PKD: match standardised channels, that is, maximise their Pearson correlation."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.stack import channel_adapter
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.features._stages import check_same_channels, connectors_for, project, stage_maps, total

_EPS = 1e-6


def pkd_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    r"""Half the mean squared error of standardised channels.

    With :math:`\hat F` every channel minus its mean, divided by its standard deviation, over batch and positions,

    .. math:: \sum_l \tfrac12 \mathrm{mean}\big((\hat F^s_l - \hat F^t_l)^2\big)

    which is :math:`1 - \rho` averaged over the channels, up to :math:`(n-1)/n`. The statistics are those of the batch
    at hand; a gradient flows through the student's.

    Args:
        student_features: one map a stage, ``(B, C, H_s, W_s)`` or tokens ``(B, N, D)``; resized bilinearly to the
            teacher's size.
        teacher_features: the same numbers of channels; no gradient flows into them.

    Returns:
        Scalar: sum over the stages, at least float32. A stage with a single value per channel contributes 0.

    Raises:
        ValueError: if the numbers of stages or channels differ.

    Reference: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation
    Coefficient", NeurIPS 2022, arXiv:2207.02039.
    """
    losses = []
    for student, teacher in stage_maps(student_features, teacher_features):
        check_same_channels(student, teacher, "PKD")
        if student.shape[2:] != teacher.shape[2:]:
            student = F.interpolate(student, teacher.shape[2:], mode="bilinear", align_corners=False)
        losses.append(0.5 * F.mse_loss(_standardised(student), _standardised(teacher)))
    return total(losses)


def _standardised(feature: Tensor) -> Tensor:
    values = feature.shape[0] * feature.shape[2:].numel()
    mean = feature.mean((0, 2, 3), keepdim=True)
    deviation = feature.std((0, 2, 3), correction=min(values - 1, 1), keepdim=True)
    return (feature - mean) / (deviation + _EPS)


class PKD(DistillationMethod):
    """:func:`pkd_loss` between stages, feature pyramids of detectors above all.

    Equal widths need no connector; a student of another width goes through 1×1 convolutions.

    Args:
        layers: which layers to compare; for detectors name the pyramid's outputs.
        weight: factor in the total loss; the authors use 6 for two-stage detectors and 10 for one-stage ones.
    """

    citation = Citation(
        "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
        "Cao et al.",
        "NeurIPS",
        2022,
        "2207.02039",
    )
    aliases = ("PKDLoss", "PearsonFeatures")
    needs_teacher_output = False

    def __init__(self, layers: Layers = "auto", weight: Weight = 6.0) -> None:
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
        """See :func:`pkd_loss`."""
        return pkd_loss(project(self.connectors, self.student_features(exchange)), self.teacher_features(exchange))
