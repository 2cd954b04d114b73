"""Losses on feature pyramids as plain loops over images, boxes and positions, and what their tests share.

Nothing here calls the library's losses, masks or overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_kd.detection import DetectionOutput
from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.base import DistillationMethod

Box = Sequence[float]


def cells_of(box: Box, height: int, width: int, image_size: tuple[int, int]) -> tuple[list[tuple[int, int]], int]:
    """The cells that a box covers, and the number of cells in FGD's weight, which counts a cell past the far edge."""
    x1, y1, x2, y2 = box
    if x2 < 0 or y2 < 0 or x1 > image_size[1] or y1 > image_size[0]:
        return [], 1
    covered, lengths = [], []
    for low, high, cells, pixels in ((y1, y2, height, image_size[0]), (x1, x2, width, image_size[1])):
        first = min(math.floor(min(max(low, 0), pixels) * cells / pixels), cells - 1)
        last = math.ceil(min(max(high, 0), pixels) * cells / pixels)
        covered.append([cell for cell in range(cells) if first <= cell <= last])
        lengths.append(last - first + 1)
    return [(row, column) for row in covered[0] for column in covered[1]], lengths[0] * lengths[1]


def fgd_masks(boxes: Tensor, height: int, width: int, image_size: tuple[int, int]) -> tuple[list, list]:
    foreground = [[0.0] * width for _ in range(height)]
    for box in boxes.tolist():
        cells, count = cells_of(box, height, width, image_size)
        for row, column in cells:
            foreground[row][column] = max(foreground[row][column], 1 / count)
    free = sum(value == 0 for row in foreground for value in row)
    background = [[1 / free if value == 0 else 0.0 for value in row] for row in foreground]
    return foreground, background


def softmax(values: list[Tensor], temperature: float) -> list[Tensor]:
    exponentials = [(value / temperature).exp() for value in values]
    return [value / sum(exponentials) for value in exponentials]


def attention(feature: Tensor, temperature: float) -> tuple[dict[tuple[int, int], Tensor], list[Tensor]]:
    """Spatial attention by position, and channel attention, of one image's map ``(C, H, W)``."""
    channels, height, width = feature.shape
    positions = [(row, column) for row in range(height) for column in range(width)]
    where = [sum(feature[c, i, j].abs() for c in range(channels)) / channels for i, j in positions]
    what = [sum(feature[c, i, j].abs() for i, j in positions) / len(positions) for c in range(channels)]
    spatial = [value * len(positions) for value in softmax(where, temperature)]
    return dict(zip(positions, spatial, strict=True)), [value * channels for value in softmax(what, temperature)]


def slow_fgd(student, teacher, student_contexts, teacher_contexts, boxes, image_size, alpha, beta, gamma, lambda_, t):
    total = 0.0
    for s, f, student_context, teacher_context in zip(
        student, teacher, student_contexts, teacher_contexts, strict=True
    ):
        batch, channels, height, width = s.shape
        for n in range(batch):
            foreground, background = fgd_masks(boxes[n], height, width, image_size)
            (spatial, channel), (student_spatial, student_channel) = attention(f[n], t), attention(s[n], t)
            loss = gamma * sum((student_spatial[p] - spatial[p]).abs() for p in spatial)
            loss = loss + gamma * sum((a - b).abs() for a, b in zip(student_channel, channel, strict=True))
            for i, j in spatial:
                focus = alpha * foreground[i][j] + beta * background[i][j]
                for c in range(channels):
                    loss = loss + focus * spatial[i, j] * channel[c] * (f[n, c, i, j] - s[n, c, i, j]) ** 2
                    loss = loss + lambda_ * (teacher_context[n, c, i, j] - student_context[n, c, i, j]) ** 2
            total = total + loss / batch
    return total


def slow_context(feature: Tensor, attend: nn.Conv2d, transform: nn.Sequential) -> Tensor:
    """The map plus its global context, for every image, from the weights of the module."""
    first, norm, _, last = transform
    images = []
    for image in feature:
        channels, height, width = image.shape
        positions = [image[:, i, j] for i in range(height) for j in range(width)]
        shares = softmax([attend.weight.view(channels) @ position + attend.bias[0] for position in positions], 1.0)
        context = sum(share * position for share, position in zip(shares, positions, strict=True))
        hidden = first.weight[:, :, 0, 0] @ context + first.bias
        hidden = (hidden - hidden.mean()) / (hidden.var(correction=0) + norm.eps).sqrt()
        hidden = (hidden * norm.weight.view(-1) + norm.bias.view(-1)).clamp(min=0)
        images.append(image + (last.weight[:, :, 0, 0] @ hidden + last.bias)[:, None, None])
    return torch.stack(images)


def slow_squares(student, teacher):
    """The sum of squared differences per image."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        for n in range(len(s)):
            for a, b in zip(s[n].flatten(), t[n].flatten(), strict=True):
                total = total + (a - b) ** 2 / len(s)
    return total


def slow_frs(student, teacher, student_logits, teacher_logits, feature_weight, class_weight):
    total = 0.0
    for s, t, student_logit, teacher_logit in zip(student, teacher, student_logits, teacher_logits, strict=True):
        features, classes, norm = 0.0, 0.0, 0.0
        for n in range(len(s)):
            for i in range(s.shape[2]):
                for j in range(s.shape[3]):
                    scores = [1 / (1 + (-value).exp()) for value in teacher_logit[n, :, i, j]]
                    mask = max(scores)
                    norm = norm + mask
                    features = features + mask * sum(
                        (a - b) ** 2 for a, b in zip(s[n, :, i, j], t[n, :, i, j], strict=True)
                    )
                    for value, score in zip(student_logit[n, :, i, j], scores, strict=True):
                        p = 1 / (1 + (-value).exp())
                        classes = classes - mask * (score * p.log() + (1 - score) * (1 - p).log())
        total = total + (feature_weight * features + class_weight * classes) / norm
    return total


def overlap(a: Box, b: Box) -> float:
    """Intersection over union; 0 where there is none."""
    sides = [max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    intersection = sides[0] * sides[1]
    return intersection / (sum(areas) - intersection) if intersection else 0.0


def near_positions(anchors: list[Box], boxes: list[Box], height: int, width: int, threshold: float) -> set:
    """Positions with an anchor that is near a box."""
    per_position, near = len(anchors) // (height * width), set()
    for box in boxes:
        overlaps = [overlap(anchor, box) for anchor in anchors]
        for index, value in enumerate(overlaps):
            if value > threshold * max(overlaps):
                near.add(divmod(index // per_position, width))
    return near


def slow_fgfi(student, teacher, anchors, boxes, threshold):
    total = 0.0 * sum(s.sum() for s in student)
    for s, t, level_anchors in zip(student, teacher, anchors, strict=True):
        error, count = 0.0, 0
        for n in range(len(s)):
            near = near_positions(level_anchors.tolist(), boxes[n].tolist(), s.shape[2], s.shape[3], threshold)
            count += len(near)
            for i, j in near:
                error = error + sum((a - b) ** 2 for a, b in zip(s[n, :, i, j], t[n, :, i, j], strict=True))
        if count:
            total = total + error / (2 * count)
    return total


AWKWARD: dict[str, list[list[Box]]] = {
    "some": [[(3, 5, 20, 17), (0, 0, 9, 30)], [(11.5, 2.25, 39, 31)]],
    "overlapping": [[(4, 4, 30, 28), (10, 8, 18, 15), (0, 0, 40, 32)], [(10, 10, 20, 20), (10, 10, 20, 20)]],
    "none in an image": [[(3, 5, 20, 17)], []],
    "none at all": [[], []],
    "without area": [[(10, 10, 10, 20), (7, 7, 7, 7)], [(40, 0, 40, 32), (0, 32, 40, 32)]],
    "outside": [[(50, 2, 60, 20), (3, -20, 9, -2)], [(5, 40, 9, 90)]],
    "partly outside": [[(-8, -4, 12, 9), (30, 20, 55, 70)], [(-10, -10, 90, 90)]],
    "one image": [[(3, 5, 20, 17)]],
}
"""Boxes for images of 32 by 40 pixels."""

IMAGE_SIZE = (32, 40)


def boxes_of(situation: str) -> list[Tensor]:
    return [torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) for boxes in AWKWARD[situation]]


def maps(*shapes: tuple[int, ...], grad: bool = False, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random features, the student's with ``grad=True``."""
    return [torch.randn(shape, dtype=dtype).requires_grad_(grad) for shape in shapes]


def assert_agree(ours: Tensor, reference: Tensor, inputs: Sequence[Tensor], tolerance: float = 1e-9) -> None:
    """Value and gradients are equal."""
    torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (ours, reference)]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def exchange_of(student: DetectionOutput, teacher: DetectionOutput, boxes: Sequence[Tensor] | None = None) -> Exchange:
    """An exchange whose taps are the levels of both pyramids."""
    views = [View(out, {f"pyramid.{i}": value for i, value in enumerate(out.pyramid)}) for out in (student, teacher)]
    targets = None if boxes is None else [{"boxes": b, "labels": torch.zeros(len(b), dtype=torch.long)} for b in boxes]
    return Exchange(inputs=(), target=targets, student=views[0], teachers=[views[1]])


def pyramids(student: Sequence[Tensor], teacher: Sequence[Tensor], boxes: Sequence[Tensor] | None = None) -> Exchange:
    """An exchange of two detectors that show their pyramids and no head."""
    return exchange_of(DetectionOutput(list(student), IMAGE_SIZE), DetectionOutput(list(teacher), IMAGE_SIZE), boxes)


def built(method: DistillationMethod, exchange: Exchange) -> DistillationMethod:
    """The method, built on an exchange's pyramids; its parameters get their dtype."""
    levels = len(exchange.student.features)
    method.pairs = [(f"pyramid.{level}", f"pyramid.{level}") for level in range(levels)]
    method.build(BuildContext(exchange, nn.Identity(), [nn.Identity()]))
    return method.to(exchange.teacher.feature("pyramid.0").dtype)
