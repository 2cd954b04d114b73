"""LD: imitate the teacher's distributions over box edges where an object is, and in the region around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.detection.output import IGNORED, Dense
from lightning_kd.detection.truth import ground_truth
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature
from lightning_kd.methods.detection._boxes import box_iou, distance_iou
from lightning_kd.methods.detection._heads import assigned_positions, by_position, same_dense_heads, sides_by_position
from lightning_kd.schedules import Scheduled, value_at

_NAME = "LD"
_CANDIDATES = 9
_REGION_STARTS = 0.25
_SIDES, _REGION_NORM = 4, 16


def ld_loss(
    student_bins: Tensor,
    teacher_bins: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    positive: Tensor,
    region: Tensor,
    levels: Sequence[int],
    main_weight: float = 0.25,
    region_weight: float = 0.25,
    class_weight: float = 10.0,
    temperature: float = 10.0,
    class_temperature: float = 2.0,
) -> Tensor:
    r"""Localization distillation loss.

    With the sides' logits :math:`b`, the class logits :math:`z`, and at softmax temperature ``T``
    :math:`D_T(t \| s) = T^2\,\mathrm{mean}_j\, p^t_j \log (p^t_j / p^s_j)`, the mean over the bins or classes and not
    their sum,

    .. math:: \frac{w_m}{4} \sum_{i \in +} \max_k \sigma(z^s_{ik}) \sum_\mathrm{sides} D_T(b^t_i \| b^s_i)
        + \frac{w_r}{16} \sum_i r_i \sum_\mathrm{sides} D_T(b^t_i \| b^s_i)
        + w_c \sum_l \frac{1}{|l^+|} \sum_{i \in l^+} D_{T_c}(z^t_i \| z^s_i)

    where :math:`+` are the positives, :math:`l^+` those of a level, and :math:`r_i` weighs the valuable localization
    region. The first two terms are sums over the batch: they are not divided by the number of positives.

    Args:
        student_bins: logits over the bins of every side, ``(N, P, 4, B)``.
        teacher_bins: the same shape; no gradient flows into them.
        student_logits: class logits, ``(N, P, K)``; as weights of the first term they get no gradient.
        teacher_logits: class logits, ``(N, P, K)``; no gradient flows into them.
        positive: whether the position is a positive, ``(N, P)``.
        region: weights :math:`r`, ``(N, P)``, 0 outside of the region; see :func:`valuable_region`.
        levels: number of positions of each level, ``P`` in total.
        main_weight: weight of the positives' sides.
        region_weight: weight of the region's sides.
        class_weight: weight of the positives' classes.
        temperature: softmax temperature of the sides.
        class_temperature: softmax temperature of the classes.

    Returns:
        Scalar, at least float32; 0 without positives and region.

    Raises:
        ValueError: if shapes do not fit.

    Reference: Zheng et al., "Localization Distillation for Dense Object Detection", CVPR 2022, arXiv:2102.12252.
    """
    _check_shapes(student_bins, teacher_bins, student_logits, teacher_logits, positive, region, levels)
    check_temperature(temperature)
    check_temperature(class_temperature)
    scores = at_least_float32(student_logits.detach())[positive].sigmoid().amax(-1)
    main = (scores * _sides(student_bins[positive], teacher_bins[positive], temperature)).sum()
    inside = region > 0
    around = (at_least_float32(region)[inside] * _sides(student_bins[inside], teacher_bins[inside], temperature)).sum()
    classes = _divergence(student_logits[positive], teacher_logits[positive], class_temperature)
    level = torch.arange(len(levels), device=positive.device).repeat_interleave(
        torch.tensor(levels, device=positive.device)
    )
    of_level = F.one_hot(level.expand_as(positive)[positive], len(levels)).to(classes.dtype)
    shares = of_level / of_level.sum(0).clamp(min=1)
    return (
        main_weight / _SIDES * main
        + region_weight / _REGION_NORM * around
        + class_weight * (shares.sum(1) * classes).sum()
    )


def valuable_region(anchors: Sequence[Tensor], boxes: Tensor, usable: Tensor) -> Tensor:
    r"""Weights of the valuable localization region of an image.

    For every ground-truth box :math:`g`, the threshold :math:`\alpha_g` is that of ATSS: mean plus standard deviation
    of the IoU of the nine anchors of each level whose centres are nearest to the box's. The region of the box holds the
    anchors of all levels with :math:`\alpha_g / 4 \le \mathrm{DIoU} < \alpha_g`, and an anchor's weight is its highest
    IoU with the boxes whose region it is in.

    Args:
        anchors: ``(P, 4)`` a level, as ``x1, y1, x2, y2`` in pixels.
        boxes: ground truth, ``(G, 4)``; there may be none.
        usable: whether an anchor may be chosen, ``(sum of P,)``.

    Returns:
        ``(sum of P,)``, 0 outside of the region.
    """
    everything = at_least_float32(torch.cat(list(anchors)))
    weights = everything.new_zeros(len(everything))
    if not len(boxes) or not bool(usable.any()):
        return weights
    boxes = boxes.to(everything)
    chosen = everything[usable]
    overlaps = box_iou(chosen[:, None], boxes)
    counts = [int(part.sum()) for part in torch.split(usable, [len(level) for level in anchors])]
    distances = torch.linalg.vector_norm(_centres(chosen)[:, None] - _centres(boxes), dim=-1)
    candidates = torch.cat(
        [
            overlap.gather(0, distance.topk(min(_CANDIDATES, len(distance)), dim=0, largest=False).indices)
            for distance, overlap in zip(torch.split(distances, counts), torch.split(overlaps, counts), strict=True)
        ]
    )
    threshold = candidates.mean(0) + candidates.std(0, correction=min(len(candidates) - 1, 1))
    closeness = distance_iou(chosen[:, None], boxes)
    inside = (closeness >= _REGION_STARTS * threshold) & (closeness < threshold)
    weights[usable] = torch.where(inside, overlaps, 0).amax(1)
    return weights


class LD(DistillationMethod):
    """:func:`ld_loss` between two detectors with GFL heads, whose boxes are distributions over bins.

    The positives are those of the student's task loss; :func:`valuable_region
    <lightning_kd.methods.detection.ld.valuable_region>` finds the region from the anchors and the ground truth.
    Positions that the task loss ignores take no part. Both heads need the same classes, levels, anchors and bins.

    The first two terms are sums over the batch, as in the authors' code: with twice the batch on a device they are
    twice as large. The authors' configurations leave out distilling the classes in the region, and so does this. The
    defaults are the published values ("main LD", "VLR LD" and "main KD").

    Args:
        main_weight: weight of the positives' sides; 0 leaves them out.
        region_weight: weight of the region's sides; 0 leaves them out.
        class_weight: weight of the positives' classes; 0 leaves them out.
        temperature: softmax temperature of the sides.
        class_temperature: softmax temperature of the classes.
        weight: factor in the total loss.

    Raises:
        ValueError: if a weight is negative or all are 0, or a temperature is not positive.
    """

    citation = Citation(
        "Localization Distillation for Dense Object Detection", "Zheng et al.", "CVPR", 2022, "2102.12252"
    )
    aliases = ("LDLoss", "LocalizationDistillation")
    needs_target = True

    def __init__(
        self,
        main_weight: float = 0.25,
        region_weight: float = 0.25,
        class_weight: float = 10.0,
        temperature: Scheduled = 10.0,
        class_temperature: Scheduled = 2.0,
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight)
        weights = (main_weight, region_weight, class_weight)
        if min(weights) < 0 or not sum(weights) > 0:
            raise ValueError(
                "main_weight, region_weight and class_weight must not be negative, and one of them must be positive, "
                f"got {weights}"
            )
        check_temperature(temperature)
        check_temperature(class_temperature)
        self.main_weight, self.region_weight, self.class_weight = weights
        self.temperature, self.class_temperature = temperature, class_temperature

    def build(self, context: BuildContext) -> None:
        """Check the detectors; there is nothing to create.

        Raises:
            ValueError: if their heads are not GFL's, or differ.
        """
        _distributional(context.exchange)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`ld_loss`."""
        student, teacher = _distributional(exchange)
        assigned = assigned_positions(student, _NAME)
        usable = assigned != IGNORED
        boxes = ground_truth(exchange).boxes if self.region_weight else [assigned.new_zeros(0, 4)] * len(assigned)
        regions = [valuable_region(student.anchors, *image) for image in zip(boxes, usable, strict=True)]
        anchors = student.anchors_per_position
        return ld_loss(
            sides_by_position(student.box_regression, anchors),
            sides_by_position(teacher.box_regression, anchors),
            by_position(student.class_logits, anchors),
            by_position(teacher.class_logits, anchors),
            assigned >= 0,
            torch.stack(regions),
            [len(level) for level in student.anchors],
            self.main_weight,
            self.region_weight,
            self.class_weight,
            value_at(self.temperature, exchange.progress),
            value_at(self.class_temperature, exchange.progress),
        )


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The divergence over the last dimension, averaged over its entries."""
    own = F.log_softmax(at_least_float32(student) / temperature, dim=-1)
    other = F.log_softmax(at_least_float32(teacher.detach()) / temperature, dim=-1)
    return F.kl_div(own, other, reduction="none", log_target=True).mean(-1) * temperature**2


def _sides(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _divergence(student, teacher, temperature).sum(-1)


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _distributional(exchange: Exchange) -> tuple[Dense, Dense]:
    """The heads, both GFL's and with the same bins."""
    student, teacher = same_dense_heads(exchange, _NAME)
    if student.kind != "gfl" or teacher.kind != "gfl":
        raise ValueError(
            "LD compares distributions over the bins of box edges, which GFL heads predict, but the heads are of the "
            f"kinds {student.kind!r} (student) and {teacher.kind!r} (teacher); train GFL detectors, or take CrossKD, "
            "which works with other heads too"
        )
    sizes = [head.box_regression[0].shape[1] // (4 * head.anchors_per_position) for head in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"LD compares distributions bin by bin, got {sizes[0]} bins a side (student) and {sizes[1]} (teacher); "
            "give both heads the same `reg_max`"
        )
    return student, teacher


def _check_shapes(
    student_bins: Tensor,
    teacher_bins: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    positive: Tensor,
    region: Tensor,
    levels: Sequence[int],
) -> None:
    check_same_logits(student_logits, teacher_logits)
    places = student_logits.shape[:2]
    if (
        student_bins.shape != teacher_bins.shape
        or student_bins.dim() != 4
        or student_bins.shape[2] != _SIDES
        or not student_bins.shape[:2] == positive.shape == region.shape == places
        or sum(levels) != places[1]
    ):
        parts = (student_bins, teacher_bins, student_logits, positive, region)
        raise ValueError(
            "ld_loss expected bins (N, P, 4, B) twice, logits (N, P, K), positives and region (N, P), and levels that "
            f"add up to P, got {[tuple(part.shape) for part in parts]} and levels {list(levels)}"
        )
