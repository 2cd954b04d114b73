"""FRS: imitate features and scores where the teacher's head sees something."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.stack import Connector
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.detection._pyramid import Side, check_levels, dense_head, level_of, projected_pyramid
from lightning_kd.methods.features._stages import check_same_maps, connectors_for, stage_maps, total

_EPS = 1e-6


def frs_loss(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    student_logits: Sequence[Tensor],
    teacher_logits: Sequence[Tensor],
    feature_weight: float = 0.005,
    class_weight: float = 0.02,
) -> Tensor:
    r"""Errors of features and class scores, weighted by the feature-richness score.

    The score of a position is the highest probability that the teacher gives there,
    :math:`M = \max_k \sigma(z^t_k)` over the channels of all anchors and classes. Every level adds

    .. math:: \frac{1}{\sum M} \sum M \Big[w_f\, (F^s - F^t)^2
        + w_c\, \mathrm{BCE}\big(\sigma(z^s), \sigma(z^t)\big)\Big]

    with both sums over the batch and the positions, and the second over the channels, too.

    Args:
        student_features: one projected map a level, ``(B, C, H, W)``.
        teacher_features: the same shapes; no gradient flows into them.
        student_logits: class logits a level, ``(B, A*K, H, W)``; not looked at where ``class_weight`` is 0.
        teacher_logits: class logits a level; no gradient flows into them.
        feature_weight: weight :math:`w_f` of the features.
        class_weight: weight :math:`w_c` of the class scores.

    Returns:
        Scalar: sum over the levels, at least float32. Scores that equal the teacher's still cost their entropy.

    Raises:
        ValueError: if the numbers of levels or the shapes differ.

    Reference: Du et al., "Distilling Object Detectors with Feature Richness", NeurIPS 2021, arXiv:2111.00674.
    """
    check_levels("FRS", student_features, teacher_features, teacher_logits)
    scores = [at_least_float32(logits.detach()).sigmoid() for logits in teacher_logits]
    richness = [score.amax(1, keepdim=True) for score in scores]
    norms = [mask.sum().clamp(min=_EPS) for mask in richness]
    losses = []
    pairs = stage_maps(student_features, teacher_features)
    for (student, teacher), mask, norm in zip(pairs, richness, norms, strict=True):
        check_same_maps(student, teacher, "FRS")
        if mask.shape[2:] != teacher.shape[2:]:
            raise ValueError(
                f"FRS weighs every position of a feature by the class logits there, got a feature of shape "
                f"{tuple(teacher.shape)} and logits at {tuple(mask.shape[2:])}; both must be of the same level"
            )
        losses.append(feature_weight * (mask * (student - teacher) ** 2).sum() / norm)
    if class_weight:
        check_levels("FRS", student_logits, teacher_logits)
        for logits, score, mask, norm in zip(student_logits, scores, richness, norms, strict=True):
            _check_same_head(logits, score)
            error = F.binary_cross_entropy_with_logits(at_least_float32(logits), score, reduction="none")
            losses.append(class_weight * (mask * error).sum() / norm)
    return total(losses)


def _check_same_head(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"FRS compares class logits anchor by anchor, got {tuple(student.shape)} (student) and "
            f"{tuple(teacher.shape)} (teacher); both heads need the same anchors and classes, or set class_weight=0 to "
            "compare features alone"
        )


class FRS(DistillationMethod):
    """:func:`frs_loss` between the levels of two one-stage detectors.

    The teacher must be a one-stage detector, and so must the student unless ``class_weight`` is 0. No boxes are needed.
    The student's features go through 3×3 convolutions and are resized to the teacher's size where it differs.

    The authors let the loss grow linearly over the first 500 steps; give ``weight`` as a schedule to do so.

    Args:
        feature_weight: weight of the features; the authors use 0.005 for RetinaNet and 0.1 for GFL.
        class_weight: weight of the class scores; the authors use 0.02 for RetinaNet and 0.05 for GFL.
        layers: which levels of the pyramid to compare.
        weight: factor in the total loss.

    Raises:
        ValueError: if a weight is negative or both are 0.
    """

    citation = Citation("Distilling Object Detectors with Feature Richness", "Du et al.", "NeurIPS", 2021, "2111.00674")
    aliases = ("FRSLoss", "FeatureRichness")

    def __init__(
        self,
        feature_weight: float = 0.005,
        class_weight: float = 0.02,
        layers: Layers = "auto",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        if min(feature_weight, class_weight) < 0 or not feature_weight + class_weight > 0:
            raise ValueError(
                "feature_weight and class_weight must not be negative, and one of them must be positive, got "
                f"{feature_weight} and {class_weight}"
            )
        self.feature_weight, self.class_weight = feature_weight, class_weight
        self.connectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a convolution for every level.

        Raises:
            ValueError: if a network that must be a one-stage detector is none.
        """
        self._heads(context.exchange)
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: Connector(nn.Conv2d(student[0], teacher[0], 3, padding=1)),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`frs_loss`."""
        student_logits, teacher_logits = self._heads(exchange)
        teacher = self.teacher_features(exchange)
        student = projected_pyramid(self.connectors, self.student_features(exchange), teacher)
        return frs_loss(student, teacher, student_logits, teacher_logits, self.feature_weight, self.class_weight)

    def _heads(self, exchange: Exchange) -> tuple[list[Tensor], list[Tensor]]:
        """The student's class logits, if they matter, and the teacher's, at the levels of the tapped features."""
        student = self._logits(exchange, "student") if self.class_weight else []
        return student, self._logits(exchange, "teacher")

    def _logits(self, exchange: Exchange, side: Side) -> list[Tensor]:
        logits = dense_head(exchange, side, "FRS").class_logits
        position = 0 if side == "student" else 1
        return [logits[level_of(pair[position], "FRS")] for pair in self.pairs]
