"""FGFI: imitate features near objects, where anchors overlap them well."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_kd.connectors.stack import Connector
from lightning_kd.detection.truth import ground_truth
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.detection._masks import near_object_mask
from lightning_kd.methods.detection._pyramid import check_levels, dense_head, level_of, projected_pyramid
from lightning_kd.methods.features._stages import check_same_maps, connectors_for, stage_maps, total


def fgfi_loss(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    anchors: Sequence[Tensor],
    boxes: Sequence[Tensor],
    threshold: float = 0.5,
) -> Tensor:
    r"""Squared error at the positions near objects.

    A position of level :math:`l` is near an object if one of its anchors overlaps (IoU) a box of the image by more than
    ``threshold`` times as much as the best anchor of the level overlaps that box. With the mask :math:`I_l` of these
    positions, every level with any adds

    .. math:: \frac{1}{2 \sum I_l} \sum I_l\, (F^s_l - F^t_l)^2

    with both sums over the batch and the positions, and the second over the channels, too.

    Args:
        student_features: one projected map a level, ``(B, C, H, W)``.
        teacher_features: the same shapes; no gradient flows into them.
        anchors: of every level ``(H*W*A, 4)`` as ``x1, y1, x2, y2`` in pixels, in the order row, column, anchor.
        boxes: for every image ``(G, 4)`` in pixels; an image may have none.
        threshold: share :math:`\psi` of the best overlap.

    Returns:
        Scalar: sum over the levels, at least float32.

    Raises:
        ValueError: if the numbers of levels or images or the shapes differ, or anchors do not fit their level.

    Reference: Wang et al., "Distilling Object Detectors with Fine-grained Feature Imitation", CVPR 2019,
    arXiv:1906.03609.
    """
    check_levels("FGFI", student_features, teacher_features, anchors)
    losses = []
    levels = zip(stage_maps(student_features, teacher_features), anchors, strict=True)
    for (student, teacher), level_anchors in levels:
        check_same_maps(student, teacher, "FGFI")
        mask = near_object_mask(boxes, level_anchors, teacher, threshold)
        error = (mask[:, None] * (student - teacher) ** 2).sum()
        losses.append(error / (2 * mask.sum()).clamp(min=1))
    return total(losses)


class FGFI(DistillationMethod):
    """:func:`fgfi_loss` between the levels of two feature pyramids, with the anchors of the teacher's head.

    It needs ground-truth boxes, and a one-stage teacher for its anchors; the student may be any detector. The student's
    features go through a 3×3 convolution and a ReLU, and are resized to the teacher's size where it differs. What
    leaves a ReLU is never negative; ``relu=False`` lets the student follow a teacher whose pyramid does not end in one.

    The paper distils a single map. Here every level of the pyramid has its own mask and its own mean, and the levels
    add up. The authors' code leaves the loss out of the first steps; give ``weight`` as a schedule to do so.

    Args:
        threshold: share of the best overlap with a box from which on an anchor counts as near it.
        relu: whether a ReLU follows the convolution, as in the authors' code.
        layers: which levels of the pyramid to compare.
        weight: factor in the total loss; the authors' value is 0.01.

    Raises:
        ValueError: unless ``0 <= threshold < 1``.
    """

    citation = Citation(
        "Distilling Object Detectors with Fine-grained Feature Imitation", "Wang et al.", "CVPR", 2019, "1906.03609"
    )
    aliases = ("FGFILoss", "FineGrainedFeatureImitation")
    needs_target = True

    def __init__(
        self, threshold: float = 0.5, relu: bool = True, layers: Layers = "auto", weight: Weight = 0.01
    ) -> None:
        super().__init__(weight, layers)
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold is a share of the best overlap and must be in [0, 1), got {threshold}")
        self.threshold, self.relu = threshold, relu
        self.connectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a convolution for every level.

        Raises:
            ValueError: if the teacher is no one-stage detector.
        """
        self._anchors(context.exchange)
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: self._adaptation(student[0], teacher[0]),
        )

    def _adaptation(self, student_channels: int, teacher_channels: int) -> Connector:
        convolution = nn.Conv2d(student_channels, teacher_channels, 3, padding=1)
        return Connector(convolution, nn.ReLU()) if self.relu else Connector(convolution)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`fgfi_loss`."""
        teacher = self.teacher_features(exchange)
        return fgfi_loss(
            projected_pyramid(self.connectors, self.student_features(exchange), teacher),
            teacher,
            self._anchors(exchange),
            ground_truth(exchange).boxes,
            self.threshold,
        )

    def _anchors(self, exchange: Exchange) -> list[Tensor]:
        """The teacher's anchors at the levels of the tapped features."""
        anchors = dense_head(exchange, "teacher", "FGFI").anchors
        return [anchors[level_of(tap, "FGFI")] for _, tap in self.pairs]
