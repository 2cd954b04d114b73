"""Losses on the levels of detectors' feature pyramids, some with boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Levels = Sequence[Tensor]


def mgd_loss(student: Levels, teacher: Levels) -> Tensor:
    """Summed squared error of generated maps."""
    losses = [F.mse_loss(s, t, reduction="sum") / len(s) for s, t in zip(student, teacher, strict=True)]
    return torch.stack(losses).sum()


def frs_loss(
    student: Levels,
    teacher: Levels,
    student_logits: Levels,
    teacher_logits: Levels,
    feature_weight: float = 0.005,
    class_weight: float = 0.02,
) -> Tensor:
    """Errors weighted by the teacher's highest score."""
    losses = []
    for s, t, p, q in zip(student, teacher, student_logits, teacher_logits, strict=True):
        richness = q.sigmoid().amax(1, keepdim=True)
        error = F.binary_cross_entropy_with_logits(p, q.sigmoid(), reduction="none")
        both = feature_weight * (richness * (s - t).pow(2)).sum() + class_weight * (richness * error).sum()
        losses.append(both / richness.sum())
    return torch.stack(losses).sum()


def fgfi_loss(student: Levels, teacher: Levels, anchors: Levels, boxes: Levels, threshold: float = 0.5) -> Tensor:
    """Squared error at positions with an anchor near a box."""
    losses = []
    for s, t, level in zip(student, teacher, anchors, strict=True):
        mask = torch.zeros_like(s[:, 0])
        for image, image_boxes in enumerate(boxes):
            for box in image_boxes:
                corners = torch.minimum(level[:, 2:], box[2:]) - torch.maximum(level[:, :2], box[:2])
                shared = corners.clamp(min=0).prod(1)
                areas = (level[:, 2:] - level[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
                overlap = shared / (areas - shared)
                near = (overlap > threshold * overlap.max()).view(*mask.shape[1:], -1).any(2)
                mask[image][near] = 1
        losses.append((mask[:, None] * (s - t).pow(2)).sum() / (2 * mask.sum()).clamp(min=1))
    return torch.stack(losses).sum()


def fgd_loss(
    student: Levels,
    teacher: Levels,
    student_contexts: Levels,
    teacher_contexts: Levels,
    boxes: Levels,
    image_size: tuple[int, int],
    alpha: float = 1e-3,
    beta: float = 5e-4,
    gamma: float = 5e-4,
    lambda_: float = 5e-6,
    temperature: float = 0.5,
) -> Tensor:
    """Foreground, background, attention and global context."""
    losses = []
    for s, t, s_context, t_context in zip(student, teacher, student_contexts, teacher_contexts, strict=True):
        attention = [_attention(f, temperature) for f in (s, t)]
        mask = torch.zeros_like(t[:, 0])
        for image, image_boxes in enumerate(boxes):
            _fill(mask[image], image_boxes, image_size)
        free = (mask == 0).to(t.dtype)
        focus = alpha * mask + beta * free / free.sum((1, 2), keepdim=True).clamp(min=1)
        loss = (focus[:, None] * attention[1][0] * attention[1][1] * (s - t).pow(2)).sum()
        loss = loss + gamma * sum((a - b).abs().sum() for a, b in zip(*attention, strict=True))
        losses.append((loss + lambda_ * F.mse_loss(s_context, t_context, reduction="sum")) / len(s))
    return torch.stack(losses).sum()


def _attention(feature: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = feature.shape
    spatial = F.softmax(feature.abs().mean(1).view(batch, -1) / temperature, dim=1) * height * width
    channel = F.softmax(feature.abs().mean((2, 3)) / temperature, dim=1) * channels
    return spatial.view(batch, 1, height, width), channel[:, :, None, None]


def _fill(mask: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> None:
    """Write one over the number of cells of the smallest box that covers a cell."""
    height, width = mask.shape
    scale = boxes.new_tensor([width / image_size[1], height / image_size[0]] * 2)
    scaled = boxes * scale
    corners = torch.cat([scaled[:, :2].floor(), scaled[:, 2:].ceil()], 1).long().tolist()
    for x1, y1, x2, y2 in corners:
        part = mask[y1 : y2 + 1, x1 : x2 + 1]
        part.clamp_(min=1 / ((y2 + 1 - y1) * (x2 + 1 - x1)))
