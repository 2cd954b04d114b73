"""Channel-wise distillation: every channel as a distribution over the positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import resize_map, to_map
from lightning_kd.connectors.stack import channel_adapter
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import check_temperature
from lightning_kd.methods.features._stages import check_same_maps, connectors_for, project, stage_maps, total
from lightning_kd.schedules import Scheduled, value_at


def cwd_loss(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], temperature: float = 1.0
) -> Tensor:
    r"""Divergence between the channels' softmax over the positions.

    .. math:: \sum_l \frac{T^2}{B C} \sum_{b,c} \mathrm{KL}\big(\mathrm{softmax}_{hw}(t_{bc}/T) \,\|\,
        \mathrm{softmax}_{hw}(s_{bc}/T)\big)

    Args:
        student_features: one map a stage, ``(B, C, H, W)`` or tokens ``(B, N, D)``.
        teacher_features: the same shapes; no gradient flows into them.
        temperature: softmax temperature ``T``.

    Returns:
        Scalar: sum over the stages, at least float32.

    Raises:
        ValueError: if the numbers of stages or the shapes differ, or the temperature is not positive.

    Reference: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, arXiv:2011.13256.
    """
    check_temperature(temperature)
    losses = []
    for student, teacher in stage_maps(student_features, teacher_features):
        check_same_maps(student, teacher, "CWD")
        log_student = F.log_softmax(student.flatten(2) / temperature, dim=2)
        log_teacher = F.log_softmax(teacher.flatten(2) / temperature, dim=2)
        divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(2)
        losses.append(divergence.mean() * temperature**2)
    return total(losses)


class CWD(DistillationMethod):
    """:func:`cwd_loss` between stages, feature pyramids and segmentation maps above all.

    A student of another width goes through 1×1 convolutions, one of another size is resized to the teacher's.

    Args:
        temperature: softmax temperature; 1 for features, 4 for segmentation logits.
        layers: which layers to compare; for detectors name the pyramid's outputs.
        weight: factor in the total loss; 5 is the authors' value for detectors, 3 for segmentation logits.
    """

    citation = Citation(
        "Channel-wise Knowledge Distillation for Dense Prediction", "Shu et al.", "ICCV", 2021, "2011.13256"
    )
    aliases = ("ChannelWiseDivergence", "CWDLoss")
    needs_teacher_output = False

    def __init__(self, temperature: Scheduled = 1.0, layers: Layers = "auto", weight: Weight = 5.0) -> None:
        super().__init__(weight, layers)
        check_temperature(temperature)
        self.temperature = temperature
        self.connectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a connector for every stage."""
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: channel_adapter(student[0], teacher[0]),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`cwd_loss`."""
        teacher = [to_map(feature) for feature in self.teacher_features(exchange)]
        projected = project(self.connectors, self.student_features(exchange))
        student = [resize_map(s, (t.shape[2], t.shape[3])) for s, t in zip(projected, teacher, strict=True)]
        return cwd_loss(student, teacher, value_at(self.temperature, exchange.progress))
