"""CrossKD: the teacher's head finishes the student's features, and what comes out imitates the teacher."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.detection.network import DetectionNetwork
from lightning_kd.detection.output import IGNORED, Branch, Dense
from lightning_kd.engine.dry_run import quiet
from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.detection._boxes import box_iou, generalized_iou
from lightning_kd.methods.detection._heads import assigned_positions, by_position, same_dense_heads, sides_by_position

BoxLoss = Literal["giou", "iou", "bins"]
"""One minus the generalized IoU, minus the logarithm of the IoU, or the divergence of distributions over bins."""

_NAME = "CrossKD"
_EPS = 1e-6
_BRANCHES: tuple[Branch, Branch] = ("classification", "regression")
_PUBLISHED: dict[str, tuple[BoxLoss, float, float]] = {
    "retinanet": ("giou", 1.0, 1.0),
    "atss": ("giou", 1.0, 1.0),
    "fcos": ("iou", 0.4, 0.75),
    "gfl": ("bins", 1.0, 4.0),
}
"""How each kind of head compares boxes, and the weights of classes and boxes."""


def cross_kd_loss(
    cross_logits: Tensor,
    teacher_logits: Tensor,
    cross_boxes: Tensor,
    teacher_boxes: Tensor,
    valid: Tensor,
    positives: float | Tensor,
    box_loss: BoxLoss = "giou",
    class_weight: float = 1.0,
    box_weight: float = 1.0,
    beta: float = 1.0,
) -> Tensor:
    r"""Distance of cross-head predictions to the teacher's.

    With the predictions :math:`z^c, b^c` that the teacher's head makes of the student's features, the teacher's own
    :math:`z^t, b^t`, and the sums over the valid positions (every anchor is one),

    .. math:: \frac{w_\mathrm{cls}}{N_+} \sum_{i, k} \big|\sigma(z^c_{ik}) - \sigma(z^t_{ik})\big|^\beta\,
        \mathrm{BCE}\big(\sigma(z^c_{ik}), \sigma(z^t_{ik})\big)
        + \frac{w_\mathrm{box}}{M} \sum_i m_i\, d(b^c_i, b^t_i), \qquad m_i = \max_k \sigma(z^t_{ik})

    :math:`N_+` is the number of positives, at least 1. Boxes are compared by their generalized IoU,
    :math:`d = 1 - \mathrm{GIoU}`, or their IoU, :math:`d = -\log \mathrm{IoU}`, and :math:`M = N_+`. Distributions over
    bins are compared by :math:`d = \tfrac14 \sum_\mathrm{sides} \mathrm{KL}(b^t \| b^c)`, and :math:`M = \sum m_i`.

    Args:
        cross_logits: class logits, ``(N, P, K)``.
        teacher_logits: class logits, ``(N, P, K)``; no gradient flows into them.
        cross_boxes: boxes ``(N, P, 4)`` as ``x1, y1, x2, y2``, or logits of the bins of every side ``(N, P, 4, B)``.
        teacher_boxes: the same shape; no gradient flows into them.
        valid: whether a position counts, ``(N, P)``.
        positives: number of positives in the batch.
        box_loss: how boxes are compared.
        class_weight: weight of the classes.
        box_weight: weight of the boxes.
        beta: exponent of the focal factor, through which a gradient flows.

    Returns:
        Scalar, at least float32.

    Raises:
        ValueError: if shapes differ.

    Reference: Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR 2024,
    arXiv:2306.11369.
    """
    _check_shapes(cross_logits, teacher_logits, cross_boxes, teacher_boxes, valid, box_loss)
    logits, boxes = at_least_float32(cross_logits), at_least_float32(cross_boxes)
    scores, wanted = at_least_float32(teacher_logits.detach()).sigmoid(), at_least_float32(teacher_boxes.detach())
    counts = valid.to(logits.dtype)
    focus = (logits.sigmoid() - scores).abs() ** beta
    entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    classes = ((focus * entropy).sum(-1) * counts).sum()
    importance = scores.amax(-1) * counts
    distances = (importance * _DISTANCES[box_loss](boxes, wanted)).sum()
    norm = torch.as_tensor(positives, dtype=logits.dtype, device=logits.device).clamp(min=1)
    box_norm = importance.sum().clamp(min=_EPS) if box_loss == "bins" else norm
    return class_weight * classes / norm + box_weight * distances / box_norm


def align_scale(student_feature: Tensor, teacher_feature: Tensor) -> Tensor:
    """Give every channel of the student the mean and the standard deviation of the teacher's.

    Args:
        student_feature: ``(N, C, H, W)``; the statistics are over batch and positions.
        teacher_feature: the same shape; no gradient flows into it.

    Returns:
        The shape of the student's, at least float32.
    """
    student, teacher = at_least_float32(student_feature), at_least_float32(teacher_feature.detach())
    correction = min(student.shape[0] * student.shape[2:].numel() - 1, 1)
    (own_std, own_mean), (std, mean) = (
        torch.std_mean(feature, (0, 2, 3), correction=correction, keepdim=True) for feature in (student, teacher)
    )
    return (student - own_mean) / (own_std + _EPS) * std + mean


def _by_generalized_iou(boxes: Tensor, wanted: Tensor) -> Tensor:
    return 1 - generalized_iou(boxes, wanted)


def _by_iou(boxes: Tensor, wanted: Tensor) -> Tensor:
    return -box_iou(boxes, wanted).clamp(min=_EPS).log()


def _by_bins(bins: Tensor, wanted: Tensor) -> Tensor:
    divergence = F.kl_div(bins.log_softmax(-1), wanted.log_softmax(-1), reduction="none", log_target=True)
    return divergence.sum(-1).mean(-1)


_DISTANCES = {"giou": _by_generalized_iou, "iou": _by_iou, "bins": _by_bins}


class CrossKD(DistillationMethod):
    """:func:`cross_kd_loss` between one-stage detectors.

    The first convolutions of the student's towers are followed by the rest of the teacher's, which is frozen: the
    gradient reaches the student's backbone, pyramid and first convolutions. The student's own predictions learn from
    the ground truth alone. Before they change hands, features get the teacher's mean and standard deviation in every
    channel (statistics of the batch at hand), then pass through a ReLU.

    Both must be one-stage detectors with the same classes, levels and anchors a position, and with towers of the same
    width. The teacher's kind decides how boxes are compared. Positions that the student's task loss ignores do not
    count; the number of its positives is averaged over the ranks in distributed training. ATSS also compares the
    centerness, by binary cross-entropy with the weights :math:`m_i` of the boxes over the number of positives.

    The authors' weights of classes and boxes are 1 and 1 for RetinaNet and ATSS, 0.4 and 0.75 for FCOS, 1 and 4 for
    GFL. The paper also adds PKD on the pyramid: ``[CrossKD(), PKD(weight=…)]``. The logarithm in the IoU loss and the
    weights of the centerness may differ from the authors' code.

    Args:
        depth: how many of the student's convolutions in each tower come before the teacher's; 0 gives the teacher's
            head the student's pyramid. By default all but the last, and half of them for FCOS: 3 and 2 of 4.
        class_weight: weight of the classes; by default as published for the teacher's kind.
        box_weight: weight of the boxes; by default as published for the teacher's kind.
        beta: exponent of the focal factor.
        weight: factor in the total loss.

    Raises:
        ValueError: if a number is negative, or ``beta`` lies between 0 and 1.
    """

    citation = Citation(
        "CrossKD: Cross-Head Knowledge Distillation for Object Detection", "Wang et al.", "CVPR", 2024, "2306.11369"
    )
    aliases = ("CrossKDLoss", "CrossHeadKD")
    needs_target = True

    def __init__(
        self,
        depth: int | None = None,
        class_weight: float | None = None,
        box_weight: float | None = None,
        beta: float = 1.0,
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight)
        if min(depth or 0, class_weight or 0, box_weight or 0) < 0:
            raise ValueError(
                f"depth, class_weight and box_weight must not be negative, got {depth}, {class_weight}, {box_weight}"
            )
        if beta < 0 or 0 < beta < 1:
            raise ValueError(
                f"beta must be 0 or at least 1, got {beta}: between them the gradient is infinite where student and "
                "teacher agree"
            )
        self.depth, self.class_weight, self.box_weight, self.beta = depth, class_weight, box_weight, beta

    def build(self, context: BuildContext) -> None:
        """Let both networks keep the outputs of their towers, and see whether they fit.

        Raises:
            ValueError: if the networks are no one-stage detectors, or their heads do not fit.
        """
        same_dense_heads(context.exchange, _NAME)
        networks = (context.student, *context.teachers)
        for module in (module for network in networks for module in network.modules()):
            if isinstance(module, DetectionNetwork):
                module.keep_towers = True
        # the outputs of the dry run were made before the towers were kept; `forward`, so that nothing is compiled yet
        with quiet(*networks):
            args, kwargs = context.exchange.inputs, context.exchange.kwargs
            student, *teachers = [View(network.forward(*args, **kwargs)) for network in networks]
        for teacher in teachers:
            _features(Exchange(args, None, student, [teacher]), self.depth)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`cross_kd_loss`."""
        student, teacher = same_dense_heads(exchange, _NAME)
        box_loss, class_weight, box_weight = _published(teacher.kind)
        assigned = assigned_positions(student, _NAME)
        valid, positives = assigned != IGNORED, _mean_over_ranks((assigned >= 0).sum())
        depth, features = _features(exchange, self.depth)
        # the teacher's parameters are frozen, but its graph is kept: the gradient goes on to the features
        logits, class_centerness = teacher.finish("classification", depth, features["classification"])
        regression, box_centerness = teacher.finish("regression", depth, features["regression"])
        teacher_logits = by_position(_detached(teacher.class_logits), teacher.anchors_per_position)
        loss = cross_kd_loss(
            by_position(logits, teacher.anchors_per_position),
            teacher_logits,
            _boxes(teacher, regression),
            _boxes(teacher, _detached(teacher.box_regression)),
            valid,
            positives,
            box_loss,
            class_weight if self.class_weight is None else self.class_weight,
            box_weight if self.box_weight is None else self.box_weight,
            self.beta,
        )
        centerness = box_centerness or class_centerness
        if teacher.kind != "atss" or not centerness or not teacher.centerness:
            return loss
        importance = teacher_logits.sigmoid().amax(-1, keepdim=True) * valid[..., None]
        entropy = F.binary_cross_entropy_with_logits(
            by_position(centerness, teacher.anchors_per_position),
            by_position(_detached(teacher.centerness), teacher.anchors_per_position).sigmoid(),
            importance,
            reduction="sum",
        )
        return loss + entropy / positives.clamp(min=1)


def _features(exchange: Exchange, depth: int | None) -> tuple[int, dict[Branch, list[Tensor]]]:
    """How many of the student's convolutions are used, and what the teacher's head goes on with."""
    student, teacher = same_dense_heads(exchange, _NAME)
    if depth is None:
        depth = teacher.tower_depth // 2 if teacher.kind == "fcos" else max(teacher.tower_depth - 1, 0)
    if depth > min(student.tower_depth, teacher.tower_depth):
        raise ValueError(
            f"CrossKD got depth={depth}, but the towers have {student.tower_depth} (student) and {teacher.tower_depth} "
            "(teacher) convolutions; choose a smaller depth"
        )
    if depth == 0:
        pyramids = exchange.student.output.pyramid, exchange.teacher.output.pyramid
        features = _aligned(*pyramids, "pyramids")
        return 0, dict.fromkeys(_BRANCHES, features)
    if not student.towers or not teacher.towers:
        missing = "student" if not student.towers else "teacher"
        raise ValueError(
            f"CrossKD needs the outputs of the towers' convolutions, but the head of the {missing} has none; set "
            "`keep_towers = True` on its DetectionNetwork, as CrossKD.build does for networks that are one"
        )
    return depth, {
        branch: [
            feature.relu()
            for feature in _aligned(
                student.towers[branch][depth - 1], teacher.towers[branch][depth - 1], f"{branch} towers"
            )
        ]
        for branch in _BRANCHES
    }


def _aligned(student: list[Tensor], teacher: list[Tensor], where: str) -> list[Tensor]:
    """Features with the teacher's scale and dtype."""
    widths = [[values.shape[1] for values in maps] for maps in (student, teacher)]
    if widths[0] != widths[1]:
        raise ValueError(
            f"CrossKD lets the teacher's head go on with the student's features, got {where} of {widths[0]} channels "
            f"(student) and {widths[1]} channels (teacher) a level; take detectors whose heads have the same width "
            "(with depth=0, whose pyramids have)"
        )
    return [align_scale(own, other).to(other.dtype) for own, other in zip(student, teacher, strict=True)]


def _boxes(teacher: Dense, regression: list[Tensor]) -> Tensor:
    if teacher.kind == "gfl":
        return sides_by_position(regression, teacher.anchors_per_position)
    return torch.cat(teacher.decode(regression), dim=1)


def _detached(maps: list[Tensor]) -> list[Tensor]:
    return [values.detach() for values in maps]


def _published(kind: str) -> tuple[BoxLoss, float, float]:
    if kind not in _PUBLISHED:
        raise ValueError(
            f"CrossKD does not know how heads of the kind {kind!r} compare boxes; it works with "
            f"{', '.join(_PUBLISHED)} (`Dense.kind`)"
        )
    return _PUBLISHED[kind]


def _mean_over_ranks(count: Tensor) -> Tensor:
    mean = count.to(torch.float32)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    return mean


def _check_shapes(
    logits: Tensor, teacher_logits: Tensor, boxes: Tensor, teacher_boxes: Tensor, valid: Tensor, box_loss: BoxLoss
) -> None:
    if box_loss not in _DISTANCES:
        raise ValueError(f"box_loss must be one of {', '.join(_DISTANCES)}, got {box_loss!r}")
    sides = 4 if box_loss == "bins" else 3
    if (
        logits.shape != teacher_logits.shape
        or boxes.shape != teacher_boxes.shape
        or not logits.shape[:2] == boxes.shape[:2] == valid.shape
        or boxes.dim() != sides
        or boxes.shape[2] != 4
    ):
        found = [tuple(part.shape) for part in (logits, teacher_logits, boxes, teacher_boxes, valid)]
        raise ValueError(
            "cross_kd_loss expected logits (N, P, K) twice, "
            f"{'bins (N, P, 4, B)' if sides == 4 else 'boxes (N, P, 4)'} twice and a mask (N, P), got {found}"
        )
