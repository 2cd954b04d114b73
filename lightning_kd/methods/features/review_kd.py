"""Knowledge review: deep student stages help shallow ones to follow the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.attention_fusion import AttentionFusion
from lightning_kd.connectors.maps import to_map
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.features._stages import check_same_maps, stage_maps, total

_PYRAMID = (4, 2, 1)


def hcl_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    r"""Hierarchical context loss: squared error at several resolutions.

    Per stage, the mean squared error of the maps themselves and of both averaged to 4×4, 2×2 and 1×1, with the weights
    1, 1/2, 1/4 and 1/8 divided by their sum. Resolutions that are not smaller than the map are left out.

    Args:
        student_features: one map a stage, ``(B, C, H, W)`` or tokens ``(B, N, D)``.
        teacher_features: the same shapes; no gradient flows into them.

    Returns:
        Scalar: sum over the stages, at least float32.

    Raises:
        ValueError: if the numbers of stages or the shapes differ.

    Reference: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv:2104.09044.
    """
    return total([_pyramid(student, teacher) for student, teacher in stage_maps(student_features, teacher_features)])


def _pyramid(student: Tensor, teacher: Tensor) -> Tensor:
    check_same_maps(student, teacher, "the hierarchical context loss")
    losses = [F.mse_loss(student, teacher)]
    for size in _PYRAMID:
        if size < min(student.shape[2:]):
            losses.append(F.mse_loss(F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)))
    weights = [0.5**level for level in range(len(losses))]
    return total([weight * loss for weight, loss in zip(weights, losses, strict=True)]) / sum(weights)


class ReviewKD(DistillationMethod):
    """:func:`hcl_loss` between the teacher's stages and the student's, fused from deep to shallow.

    Widths and sizes are inferred. The common width is ``min(512, width of the student's deepest level)``; a limit of
    256, which the configuration of some re-implementations mentions, is ignored there and can be set here.

    The authors' code compares with the teacher's features *before* the last ReLU of a stage, and scales the loss by
    ``min(epoch / 20, 1)``. ``layers="auto"`` takes the stage outputs; name other layers to follow them, and give
    ``weight`` as a schedule for the warm-up.

    Args:
        averaged: whether the average of the deepest stage is one more, 1×1, level, as in the authors' code. Where the
            networks have layers after the last stage, name ``{"classifier:input": "classifier:input"}`` as the last
            pair instead; a last pair of embeddings ``(B, D)`` is such a level already.
        max_channels: upper limit of the common width.
        layers: which layers to compare, from the shallowest to the deepest.
        weight: factor in the total loss. Published values: 0.6 (resnet20), 1 (resnet32; ImageNet R18), 5 (wrn_16_2,
            wrn_40_1, resnet8x4, ShuffleNetV1), 8 (ShuffleNetV2; ImageNet MobileNetV1).
    """

    citation = Citation("Distilling Knowledge via Knowledge Review", "Chen et al.", "CVPR", 2021, "2104.09044")
    aliases = ("KR", "KnowledgeReview", "HierarchicalContextLoss")
    needs_teacher_output = False

    def __init__(
        self, averaged: bool = True, max_channels: int = 512, layers: Layers = "auto", weight: Weight = 1.0
    ) -> None:
        super().__init__(weight, layers)
        if max_channels < 1:
            raise ValueError(f"max_channels must be positive, got {max_channels}")
        self.averaged = averaged
        self.max_channels = max_channels
        self.fusions = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create one fusion a level, from the deepest to the shallowest."""
        student, teacher = self._levels(context.exchange)
        common = min(self.max_channels, student[-1].shape[1])
        self.fusions = nn.ModuleList(
            AttentionFusion(s.shape[1], common, t.shape[1], fuses=depth > 0)
            for depth, (s, t) in enumerate(zip(reversed(student), reversed(teacher), strict=True))
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`hcl_loss`."""
        student, teacher = self._levels(exchange)
        fused: list[Tensor] = []
        residual: Tensor | None = None
        for fusion, s, t in zip(self.fusions, reversed(student), reversed(teacher), strict=True):
            output, residual = fusion(s, residual, tuple(t.shape[2:]))
            fused.append(output)
        return hcl_loss(fused, list(reversed(teacher)))

    def _levels(self, exchange: Exchange) -> tuple[list[Tensor], list[Tensor]]:
        student = [_level(feature) for feature in self.student_features(exchange)]
        teacher = [_level(feature) for feature in self.teacher_features(exchange)]
        if self.averaged and max(student[-1].shape[2:]) > 1:
            student.append(student[-1].mean((2, 3), keepdim=True))
            teacher.append(teacher[-1].mean((2, 3), keepdim=True))
        return student, teacher


def _level(feature: Tensor) -> Tensor:
    return feature[:, :, None, None] if feature.dim() == 2 else to_map(feature)
