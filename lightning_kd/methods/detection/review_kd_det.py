"""Knowledge review for detectors: coarse levels of the student's pyramid help fine ones to follow the teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_kd.connectors.attention_fusion import AttentionFusion
from lightning_kd.connectors.maps import to_map
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import check_same_stages
from lightning_kd.methods.features._stages import map_shape
from lightning_kd.methods.features.review_kd import hcl_loss


class ReviewKDDet(DistillationMethod):
    """:func:`hcl_loss` between the levels of the teacher's pyramid and the student's, fused from coarse to fine.

    What :class:`ReviewKD` does with the stages of a backbone, without its pooled last level and with a common width
    that does not depend on the student. It needs neither boxes nor a head, so that one-stage and two-stage detectors
    will do. Levels of another size are resized to the teacher's (nearest).

    Args:
        mid_channels: common width of the fused levels.
        layers: which layers to compare, from the finest to the coarsest; by default all levels of the pyramid.
        weight: factor in the total loss. The authors use 1 for a ResNet-50 student (Faster R-CNN and RetinaNet), 1.2
            for ResNet-18 and 2 for MobileNetV2.
    """

    citation = Citation("Distilling Knowledge via Knowledge Review", "Chen et al.", "CVPR", 2021, "2104.09044")
    aliases = ("ReviewKD-det", "KnowledgeReviewDetection")

    def __init__(self, mid_channels: int = 256, layers: Layers = "auto", weight: Weight = 1.0) -> None:
        super().__init__(weight, layers)
        if mid_channels < 1:
            raise ValueError(f"mid_channels must be positive, got {mid_channels}")
        self.mid_channels = mid_channels
        self.fusions = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create one fusion a level, from the coarsest to the finest."""
        student, teacher = self.student_features(context.exchange), self.teacher_features(context.exchange)
        check_same_stages(student, teacher)
        self.fusions = nn.ModuleList(
            AttentionFusion(map_shape(s)[0], self.mid_channels, map_shape(t)[0], fuses=depth > 0)
            for depth, (s, t) in enumerate(zip(reversed(student), reversed(teacher), strict=True))
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`hcl_loss`."""
        student = [to_map(feature) for feature in self.student_features(exchange)]
        teacher = [to_map(feature) for feature in self.teacher_features(exchange)]
        fused: list[Tensor] = []
        residual: Tensor | None = None
        for fusion, s, t in zip(self.fusions, reversed(student), reversed(teacher), strict=True):
            output, residual = fusion(s, residual, tuple(t.shape[2:]))
            fused.append(output)
        return hcl_loss(fused, list(reversed(teacher)))
