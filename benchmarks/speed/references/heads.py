"""Losses on the heads of one-stage detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_kd_loss(
    cross_logits: Tensor,
    teacher_logits: Tensor,
    cross_boxes: Tensor,
    teacher_boxes: Tensor,
    valid: Tensor,
    positives: float,
) -> Tensor:
    """Quality focal loss of all classes, and the generalized IoU weighted by the teacher's highest score."""
    logits, boxes = cross_logits[valid], cross_boxes[valid]
    scores, wanted = teacher_logits[valid].sigmoid(), teacher_boxes[valid]
    entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    classes = ((logits.sigmoid() - scores).abs() * entropy).sum()
    corners = torch.minimum(boxes[:, 2:], wanted[:, 2:]) - torch.maximum(boxes[:, :2], wanted[:, :2])
    hull = (torch.maximum(boxes[:, 2:], wanted[:, 2:]) - torch.minimum(boxes[:, :2], wanted[:, :2])).prod(1)
    overlap = corners.clamp(min=0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (wanted[:, 2:] - wanted[:, :2]).prod(1) - overlap
    distance = 2 - overlap / union - union / hull
    return (classes + (scores.amax(1) * distance).sum()) / positives


def ld_loss(
    student_bins: Tensor,
    teacher_bins: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    positive: Tensor,
    region: Tensor,
    levels: Sequence[int],
) -> Tensor:
    """Divergence of the sides on positives and region, and of the classes on positives, at every position."""
    sides = _divergence(student_bins, teacher_bins, 10.0).sum(2)
    main = (positive * student_logits.detach().sigmoid().amax(2) * sides).sum()
    loss = 0.25 / 4 * main + 0.25 / 16 * (region * sides).sum()
    classes = positive * _divergence(student_logits, teacher_logits, 2.0)
    for values, found in zip(classes.split(list(levels), 1), positive.split(list(levels), 1), strict=True):
        loss = loss + 10 * values.sum() / found.sum().clamp(min=1)
    return loss


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    own, wanted = (student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1)
    return F.kl_div(own, wanted, reduction="none").mean(-1) * temperature**2
