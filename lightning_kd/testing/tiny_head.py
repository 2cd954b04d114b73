"""The one-stage head of the tiny detector: two towers, square anchors, boxes as offsets or as distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.detection.network import Targets
from lightning_kd.detection.output import BACKGROUND, IGNORED, Branch, Dense

Kind = Literal["retinanet", "gfl"]
"""Boxes as offsets from anchors, or as distributions over distances from points."""

HEAD_WIDTH = 8
TOWER_DEPTH = 2
REG_MAX = 4
_POSITIVE, _NEGATIVE = 0.4, 0.3
_MAX_LOG_SCALE = math.log(8.0)


class TinyHead(nn.Module):
    """A tower of two convolutions and a prediction for each branch, shared by all levels.

    Its width does not depend on the pyramid's, so that one detector's head takes another's tower features.

    Args:
        in_channels: channels of the pyramid.
        num_classes: number of classes ``K``.
        kind: how boxes are coded.
    """

    def __init__(self, in_channels: int, num_classes: int, kind: Kind) -> None:
        super().__init__()
        self.classification = _Branch(in_channels, num_classes)
        self.regression = _Branch(in_channels, 4 * (REG_MAX + 1) if kind == "gfl" else 4)
        self.num_classes, self.kind = num_classes, kind

    def forward(
        self, branch: Branch, features: Sequence[Tensor], done: int = 0
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Run a branch from its convolution ``done`` on.

        Returns:
            Predictions a level, and what each convolution put out before its activation, ``[i][level]``.
        """
        chosen = self.classification if branch == "classification" else self.regression
        result: tuple[list[Tensor], list[list[Tensor]]] = chosen(features, done)
        return result


class _Branch(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [in_channels, *[HEAD_WIDTH] * TOWER_DEPTH]
        self.tower = nn.ModuleList(
            nn.Conv2d(widths[depth], widths[depth + 1], 3, padding=1) for depth in range(TOWER_DEPTH)
        )
        self.predict = nn.Conv2d(HEAD_WIDTH, out_channels, 3, padding=1)

    def forward(self, features: Sequence[Tensor], done: int) -> tuple[list[Tensor], list[list[Tensor]]]:
        # a method may have raised the other network's features to float32
        maps = [feature.to(self.predict.weight.dtype) for feature in features]
        kept: list[list[Tensor]] = []
        for layer in self.tower[done:]:
            kept.append([layer(value) for value in maps])
            maps = [value.relu() for value in kept[-1]]
        return [self.predict(value) for value in maps], kept


class TinyDense(Dense):
    """One call of :class:`TinyHead`.

    Args:
        head: the head that made the maps.
        class_logits: ``(N, K, H_l, W_l)``.
        box_regression: ``(N, D, H_l, W_l)``.
        strides: pixels between neighbouring positions.
        targets: the ground truth, or ``None``.
        towers: what the convolutions put out, or ``{}``.
    """

    def __init__(
        self,
        head: TinyHead,
        class_logits: list[Tensor],
        box_regression: list[Tensor],
        strides: list[int],
        targets: Targets | None,
        towers: dict[Branch, list[list[Tensor]]],
    ) -> None:
        self._head = head
        self.kind, self.num_classes = head.kind, head.num_classes
        self.anchors_per_position, self.tower_depth = 1, TOWER_DEPTH
        self.class_logits, self.box_regression, self.centerness = class_logits, box_regression, None
        self.strides, self.towers = strides, towers
        self.anchors = [square_anchors(value, stride) for value, stride in zip(class_logits, strides, strict=True)]
        anchors = torch.cat(self.anchors)
        self.assigned = None if targets is None else [assign(anchors, target["boxes"]) for target in targets]

    @override
    def finish(self, branch: Branch, done: int, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        if not 0 <= done <= TOWER_DEPTH:
            raise ValueError(f"done must be between 0 and the tower's depth, {TOWER_DEPTH}, got {done}")
        return self._head(branch, features, done)[0], None

    @override
    def decode(self, box_regression: list[Tensor]) -> list[Tensor]:
        decoded = []
        for regression, anchors, stride in zip(box_regression, self.anchors, self.strides, strict=True):
            values = regression.permute(0, 2, 3, 1).flatten(1, 2).float()
            decoded.append(_from_bins(values, anchors, stride) if self.kind == "gfl" else _from_deltas(values, anchors))
        return decoded


def square_anchors(features: Tensor, stride: int) -> Tensor:
    """One square of twice the stride around the centre of every cell, ``(P, 4)``, row by row."""
    height, width = features.shape[-2:]
    y, x = torch.meshgrid(
        (torch.arange(height, device=features.device) + 0.5) * stride,
        (torch.arange(width, device=features.device) + 0.5) * stride,
        indexing="ij",
    )
    centres = torch.stack([x, y], dim=-1).reshape(-1, 2)
    return torch.cat([centres - stride, centres + stride], dim=1)


def assign(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The ground-truth box of every anchor by overlap; every box gets at least the anchor that it overlaps most.

    Args:
        anchors: ``(P, 4)``.
        boxes: ``(G, 4)``.

    Returns:
        ``(P,)``: indices of boxes, :data:`BACKGROUND` or :data:`IGNORED`.
    """
    assigned = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    if not len(boxes):
        return assigned
    overlaps = iou(anchors, boxes)
    best, box = overlaps.max(dim=1)
    assigned[best >= _NEGATIVE] = IGNORED
    assigned[best >= _POSITIVE] = box[best >= _POSITIVE]
    assigned[overlaps.argmax(dim=0)] = torch.arange(len(boxes), device=anchors.device)
    return assigned


def iou(left: Tensor, right: Tensor) -> Tensor:
    """Intersection over union of every box with every other, ``(L, R)``; 0 where a box has no area."""
    low, high = torch.maximum(left[:, None, :2], right[:, :2]), torch.minimum(left[:, None, 2:], right[:, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    union = _area(left)[:, None] + _area(right) - overlap
    return overlap / union.clamp(min=1e-6)


def dense_losses(dense: TinyDense, targets: Targets) -> dict[str, Tensor]:
    """Binary cross-entropy of all positions that count, and the boxes' distance in units of their anchors."""
    logits = torch.cat([value.flatten(2).transpose(1, 2).float() for value in dense.class_logits], dim=1)
    boxes = torch.cat(dense.decode(dense.box_regression), dim=1)
    anchors = torch.cat(dense.anchors)
    assignments = [assign(anchors, target["boxes"]) for target in targets]
    sides = anchors[:, 2] - anchors[:, 0]
    classification = regression = logits.new_zeros(())
    for position, (assigned, target) in enumerate(zip(assignments, targets, strict=True)):
        positive = assigned >= 0
        wanted = torch.zeros_like(logits[position])
        wanted[positive, target["labels"][assigned[positive]]] = 1
        counts = (assigned != IGNORED)[:, None]
        classification = classification + F.binary_cross_entropy_with_logits(
            logits[position], wanted, counts.float().expand_as(wanted), reduction="sum"
        )
        error = (boxes[position][positive] - target["boxes"][assigned[positive]]).abs().sum(dim=1)
        regression = regression + (error / sides[positive]).sum()
    positives = max(1, sum(int((assigned >= 0).sum()) for assigned in assignments))
    return {"classification": classification / positives, "regression": regression / positives}


def _from_deltas(values: Tensor, anchors: Tensor) -> Tensor:
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = _centres(anchors) + values[..., :2] * sizes
    half = 0.5 * sizes * values[..., 2:].clamp(max=_MAX_LOG_SCALE).exp()
    return torch.cat([centres - half, centres + half], dim=-1)


def _from_bins(values: Tensor, anchors: Tensor, stride: int) -> Tensor:
    bins = torch.arange(REG_MAX + 1, dtype=values.dtype, device=values.device)
    distances = stride * (values.reshape(*values.shape[:-1], 4, REG_MAX + 1).softmax(dim=-1) * bins).sum(dim=-1)
    centres = _centres(anchors)
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=-1)
