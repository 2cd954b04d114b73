"""Losses on heads as plain loops over images, positions, sides and proposals, and heads small enough to follow.

Nothing here calls the library's losses, overlaps or reshaping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_kd.detection import BACKGROUND, IGNORED, Dense, DetectionOutput, Regions
from lightning_kd.engine.exchange import Exchange, View

IMAGE_SIZE = (32, 40)
STRIDES = (8, 16)
CLASSES = 3
BINS = 5


def sigmoid(value: Tensor) -> Tensor:
    return 1 / (1 + (-value).exp())


def softmax(values: Tensor, temperature: float = 1.0) -> list[Tensor]:
    powers = [(value / temperature).exp() for value in values]
    return [power / sum(powers) for power in powers]


def slow_overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Intersection, union, and width and height of the hull."""
    zero = torch.zeros((), dtype=a.dtype)
    sides = [max(zero, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1)]
    areas = [max(zero, box[2] - box[0]) * max(zero, box[3] - box[1]) for box in (a, b)]
    hull = [max(a[k + 2], b[k + 2]) - min(a[k], b[k]) for k in (0, 1)]
    shared = sides[0] * sides[1]
    return shared, areas[0] + areas[1] - shared, hull[0], hull[1]


def slow_iou(a: Tensor, b: Tensor) -> Tensor:
    shared, union, _, _ = slow_overlap(a, b)
    return shared / union if union > 1e-6 else 0 * union


def slow_giou(a: Tensor, b: Tensor) -> Tensor:
    _, union, width, height = slow_overlap(a, b)
    hull = width * height
    return slow_iou(a, b) - ((hull - union) / hull if hull > 1e-6 else 0)


def slow_diou(a: Tensor, b: Tensor) -> Tensor:
    _, _, width, height = slow_overlap(a, b)
    distance = sum(((a[k] + a[k + 2]) / 2 - (b[k] + b[k + 2]) / 2) ** 2 for k in (0, 1))
    diagonal = width**2 + height**2
    return slow_iou(a, b) - (distance / diagonal if diagonal > 1e-6 else 0)


def slow_kl(wanted: Tensor, own: Tensor, temperature: float = 1.0) -> Tensor:
    """Sum over the last dimension, without the square of the temperature."""
    pairs = zip(softmax(wanted, temperature), softmax(own, temperature), strict=True)
    return sum(p * (p / q).log() for p, q in pairs)


def slow_cross_kd(
    logits, teacher_logits, boxes, teacher_boxes, valid, positives, box_loss, class_weight=1.0, box_weight=1.0, beta=1.0
):
    classes = distances = weights = 0.0 * (logits.sum() + boxes.sum())
    for n in range(len(logits)):
        for i in range(logits.shape[1]):
            if not valid[n, i]:
                continue
            scores = [sigmoid(value) for value in teacher_logits[n, i]]
            for value, score in zip(logits[n, i], scores, strict=True):
                p = sigmoid(value)
                classes = classes - (p - score).abs() ** beta * (score * p.log() + (1 - score) * (1 - p).log())
            weight, own, wanted = max(scores), boxes[n, i], teacher_boxes[n, i]
            if box_loss == "bins":
                distance = sum(slow_kl(wanted[side], own[side]) for side in range(4)) / 4
            elif box_loss == "giou":
                distance = 1 - slow_giou(own, wanted)
            else:
                overlap = slow_iou(own, wanted)
                distance = -overlap.log() if overlap > 1e-6 else -torch.tensor(1e-6).double().log()
            distances, weights = distances + weight * distance, weights + weight
    norm = max(positives, 1)
    box_norm = max(weights, 1e-6) if box_loss == "bins" else norm
    return class_weight * classes / norm + box_weight * distances / box_norm


def slow_align(student: Tensor, teacher: Tensor) -> Tensor:
    """Channel by channel."""
    channels = []
    for own, other in zip(student.unbind(1), teacher.unbind(1), strict=True):
        count = own.numel()
        means = [sum(values.flatten()) / count for values in (own, other)]
        squares = [sum((values.flatten() - mean) ** 2) for values, mean in zip((own, other), means, strict=True)]
        stds = [(square / max(count - 1, 1)).sqrt() for square in squares]
        channels.append((own - means[0]) / (stds[0] + 1e-6) * stds[1] + means[1])
    return torch.stack(channels, 1)


def slow_region(anchors: Sequence[Tensor], boxes: Tensor, usable: Tensor) -> list[float]:
    weights, start, levels = [0.0] * sum(map(len, anchors)), 0, []
    for level in anchors:
        levels.append([(start + i, anchor) for i, anchor in enumerate(level) if usable[start + i]])
        start += len(level)
    for box in boxes:
        overlaps = []
        for level in levels:
            near = sorted(
                level,
                key=lambda item: sum(((item[1][k] + item[1][k + 2] - box[k] - box[k + 2]) / 2) ** 2 for k in (0, 1)),
            )
            overlaps += [float(slow_iou(anchor, box)) for _, anchor in near[:9]]
        if not overlaps:
            continue
        mean = sum(overlaps) / len(overlaps)
        variance = sum((value - mean) ** 2 for value in overlaps) / max(len(overlaps) - 1, 1)
        threshold = mean + variance**0.5
        for index, anchor in (item for level in levels for item in level):
            if 0.25 * threshold <= float(slow_diou(anchor, box)) < threshold:
                weights[index] = max(weights[index], float(slow_iou(anchor, box)))
    return weights


def slow_ld(bins, teacher_bins, logits, teacher_logits, positive, region, levels, weights, temperature, class_t):
    main = around = classes = 0.0 * (bins.sum() + logits.sum())
    start = 0
    for count in levels:
        level_classes, found = 0.0, 0
        for n in range(len(bins)):
            for i in range(start, start + count):
                own, wanted = bins[n, i], teacher_bins[n, i]
                sides = sum(slow_kl(wanted[k], own[k], temperature) for k in range(4)) * temperature**2 / bins.shape[3]
                around = around + float(region[n, i]) * sides / 16
                if positive[n, i]:
                    main = main + max(float(sigmoid(value.detach())) for value in logits[n, i]) * sides / 4
                    divergence = slow_kl(teacher_logits[n, i], logits[n, i], class_t)
                    level_classes = level_classes + divergence * class_t**2 / logits.shape[2]
                    found += 1
        classes = classes + level_classes / max(found, 1)
        start += count
    return weights[0] * main + weights[1] * around + weights[2] * classes


def slow_dkd(logits, teacher_logits, labels, alpha, beta, t):
    total = 0.0
    for own, wanted, label in zip(logits, teacher_logits, labels.tolist(), strict=True):
        p, q = softmax(wanted, t), softmax(own, t)
        rest = [k for k in range(len(own)) if k != label]
        p_rest, q_rest = sum(p[k] for k in rest), sum(q[k] for k in rest)
        total = total + alpha * (p[label] * (p[label] / q[label]).log() + p_rest * (p_rest / q_rest).log())
        total = total + beta * sum(p[k] / p_rest * (p[k] / p_rest / (q[k] / q_rest)).log() for k in rest)
    return total * t**2 / len(labels)


def slow_nd(embeddings, teacher_embeddings, means, labels):
    total = 0.0
    for own, other, label in zip(embeddings, teacher_embeddings, labels.tolist(), strict=True):
        lengths = [sum(value**2 for value in vector).sqrt() for vector in (own, other, means[label])]
        along = sum(a * b for a, b in zip(own, means[label], strict=True)) / max(lengths[2], torch.tensor(1e-12))
        total = total + 1 - along / max(lengths[:2])
    return total / len(labels)


def assert_agree(ours: Tensor, reference: Tensor, inputs: Sequence[Tensor], tolerance: float = 1e-9) -> None:
    """Value and gradients are equal."""
    torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (ours, reference)]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def grid_anchors(per_position: int = 1) -> list[Tensor]:
    """Squares around every position of the levels, in the order row, column, anchor."""
    levels = []
    for stride in STRIDES:
        rows = []
        for row in range(IMAGE_SIZE[0] // stride):
            for column in range(-(-IMAGE_SIZE[1] // stride)):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                for size in [stride * (1 + 0.5 * anchor) for anchor in range(per_position)]:
                    rows.append([x - size, y - size, x + size, y + size])
        levels.append(torch.tensor(rows, dtype=torch.float64))
    return levels


class PointwiseLayers(nn.Module):
    """Towers of 1x1 convolutions, so that every position can be followed by hand."""

    def __init__(self, kind: str, per_position: int, depth: int, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        code = 4 * BINS if kind == "gfl" else 4
        self.kind, self.per_position, self.classes = kind, per_position, classes
        self.towers = nn.ModuleDict(
            {
                branch: nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(depth))
                for branch in ("classification", "regression")
            }
        )
        self.predict = nn.ModuleDict(
            {
                "classification": nn.Conv2d(width, per_position * classes, 1),
                "regression": nn.Conv2d(width, per_position * code, 1),
            }
        )
        self.centerness = nn.Conv2d(width, per_position, 1)
        self.double()

    def forward(self, pyramid: list[Tensor], assigned: list[Tensor] | None) -> PointwiseDense:
        return PointwiseDense(self, pyramid, assigned)


class PointwiseDense(Dense):
    def __init__(self, layers: PointwiseLayers, pyramid: list[Tensor], assigned: list[Tensor] | None) -> None:
        self.layers, self.kind, self.assigned = layers, layers.kind, assigned
        self.num_classes, self.anchors_per_position = layers.classes, layers.per_position
        self.tower_depth = len(layers.towers["classification"])
        self.anchors, self.strides = grid_anchors(layers.per_position), list(STRIDES)
        self.towers = {}
        for branch, tower in layers.towers.items():
            maps, self.towers[branch] = pyramid, []
            for layer in tower:
                self.towers[branch].append([layer(value) for value in maps])
                maps = [value.relu() for value in self.towers[branch][-1]]
        self.class_logits, _ = self.finish("classification", 0, pyramid)
        self.box_regression, self.centerness = self.finish("regression", 0, pyramid)

    def finish(self, branch: Any, done: int, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        for layer in self.layers.towers[branch][done:]:
            features = [layer(value).relu() for value in features]
        predicted = [self.layers.predict[branch](value) for value in features]
        if branch == "classification" or self.kind not in ("fcos", "atss"):
            return predicted, None
        return predicted, [self.layers.centerness(value) for value in features]

    def decode(self, box_regression: list[Tensor]) -> list[Tensor]:
        decoded = []
        for maps, anchors in zip(box_regression, self.anchors, strict=True):
            values = maps.permute(0, 2, 3, 1).reshape(len(maps), -1, 4)
            if self.kind == "fcos":
                centres = (anchors[:, :2] + anchors[:, 2:]) / 2
                decoded.append(torch.cat([centres - values[..., :2].exp(), centres + values[..., 2:].exp()], -1))
            else:
                decoded.append(anchors + values)
        return decoded


def position_rows(head: PointwiseDense, maps: list[Tensor], code: int) -> Tensor:
    """What is predicted at every position and anchor, read one by one, ``(N, P, code)``."""
    images = []
    for n in range(len(maps[0])):
        rows = []
        for values in maps:
            for i in range(values.shape[2]):
                for j in range(values.shape[3]):
                    for anchor in range(head.anchors_per_position):
                        rows.append(values[n, anchor * code : (anchor + 1) * code, i, j])
        images.append(torch.stack(rows))
    return torch.stack(images)


def slow_decode(head: PointwiseDense, rows: Tensor) -> Tensor:
    anchors = [anchor for level in head.anchors for anchor in level]
    images = []
    for image in rows:
        boxes = []
        for anchor, values in zip(anchors, image, strict=True):
            if head.kind == "fcos":
                x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
                signs = zip((x, y, x, y), (-1, -1, 1, 1), values, strict=True)
                boxes.append(torch.stack([centre + sign * value.exp() for centre, sign, value in signs]))
            else:
                boxes.append(torch.stack([side + value for side, value in zip(anchor, values, strict=True)]))
        images.append(torch.stack(boxes))
    return torch.stack(images)


def pyramid_of(images: int, width: int, *, grad: bool = False) -> list[Tensor]:
    return [
        torch.randn(images, width, IMAGE_SIZE[0] // stride, -(-IMAGE_SIZE[1] // stride), dtype=torch.float64)
        .mul(2)
        .requires_grad_(grad)
        for stride in STRIDES
    ]


def assignment(images: int, per_position: int = 1, *, positives: bool = True) -> list[Tensor]:
    """Some positives, some ignored, the rest background."""
    count = sum(map(len, grid_anchors(per_position)))
    found = []
    for image in range(images):
        assigned = torch.full((count,), BACKGROUND)
        assigned[image::7] = IGNORED
        if positives:
            assigned[image + 3 :: 5] = 0
        found.append(assigned)
    return found


def exchange_of(student: DetectionOutput, teacher: DetectionOutput, boxes: Sequence[Tensor] | None = None) -> Exchange:
    targets = None if boxes is None else [{"boxes": b, "labels": torch.arange(len(b)) % CLASSES} for b in boxes]
    return Exchange(inputs=(), target=targets, student=View(student), teachers=[View(teacher)])


class ListedRegions(Regions):
    """Embeds the four numbers of a box by a matrix, and classifies the embedding by another."""

    def __init__(
        self,
        width: int,
        proposals: Sequence[Tensor] | None = None,
        labels: Tensor | None = None,
        *,
        classes: int = CLASSES,
        background: int = 0,
        own: Sequence[Tensor] = (),
    ) -> None:
        self.embed = torch.randn(4, width, dtype=torch.float64, requires_grad=True)
        self.predict = torch.randn(width, classes + 1, dtype=torch.float64, requires_grad=True)
        self.background, self.num_classes, self.label_offset = background, classes + 1, int(background == 0)
        self.own, self.labels, self.box_regression = list(own), labels, None
        self.proposals = None if proposals is None else list(proposals)
        self.embeddings = self.class_logits = None
        if self.proposals is not None:
            self.embeddings, self.class_logits = self.classify(self.proposals)

    def classify(self, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        embeddings = torch.cat(list(proposals)) / 20 @ self.embed
        return embeddings, embeddings @ self.predict

    def propose(self) -> list[Tensor]:
        return self.own


def regions_output(regions: Regions | None) -> DetectionOutput:
    images = 2 if not getattr(regions, "own", None) else len(regions.own)
    return DetectionOutput(pyramid_of(images, 2), IMAGE_SIZE, regions=regions)
