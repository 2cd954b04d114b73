"""A tiny detector of two stages, and scenes to try a detection method on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from typing_extensions import override

from lightning_kd.detection.network import DetectionNetwork, Targets, pass_through
from lightning_kd.detection.output import Branch, DetectionOutput
from lightning_kd.testing.tiny_head import Kind, TinyDense, TinyHead, dense_losses, iou
from lightning_kd.testing.tiny_regions import TinyRegionHead, TinyRegions

SCENE_SIZE = 32
SCENE_CLASSES = 3
STRIDES = (4, 8, 16)
_MIN_SCORE, _MAX_OVERLAP, _MAX_DETECTIONS = 0.05, 0.5, 20

Scenes = tuple[Tensor, list[tuple[int, int]], Targets]
"""Images ``(N, 3, H, W)``, their sizes without padding, and their boxes: the arguments of a detection network."""


class TinyDetector(DetectionNetwork):
    """A pyramid of three levels under a one-stage head and a second stage, in a few thousand parameters.

    It has no batch normalization: in training mode it computes what it computes in eval mode.

    Args:
        channels: channels of the body and of the pyramid.
        kind: ``"retinanet"``: boxes are offsets from anchors; ``"gfl"``: distributions over five bins a side.
        num_classes: number of classes ``K``; labels count from 0, and class ``c`` is ``c + 1`` in the second stage.
        dense: whether the output shows the one-stage head. Without it, the head only makes proposals.
        regions: whether there is a second stage.
    """

    def __init__(
        self,
        channels: int = 8,
        kind: Kind = "retinanet",
        num_classes: int = SCENE_CLASSES,
        *,
        dense: bool = True,
        regions: bool = True,
    ) -> None:
        super().__init__(levels=len(STRIDES))
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.GroupNorm(1, channels), nn.ReLU())
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.GroupNorm(1, channels), nn.ReLU()) for _ in STRIDES
        )
        self.lateral = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in STRIDES)
        self.head = TinyHead(channels, num_classes, kind)
        self.region_head = TinyRegionHead(channels, num_classes) if regions else None
        self.shows_dense = dense

    @override
    def forward(self, images: Tensor, sizes: list[tuple[int, int]], targets: Targets | None = None) -> DetectionOutput:
        image_size = int(images.shape[-2]), int(images.shape[-1])
        pyramid = pass_through(self.pyramid, self._pyramid(images))
        dense = self._dense(pyramid, targets)
        output = DetectionOutput(pyramid, image_size, dense=dense if self.shows_dense else None)
        learns = targets if self.training else None
        regions = None
        if self.region_head is not None:
            regions = output.regions = TinyRegions(self.region_head, pyramid[0], dense, image_size, learns)
        if learns is not None:
            output.losses = dense_losses(dense, learns) | ({} if regions is None else regions.losses)
        return output

    @override
    def detect(self, output: DetectionOutput, sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        if output.dense is not None:
            boxes = list(torch.cat(output.dense.decode(output.dense.box_regression), dim=1))
            maps = [value.flatten(2).transpose(1, 2).float() for value in output.dense.class_logits]
            scores = list(torch.cat(maps, dim=1).sigmoid())
        elif output.regions is not None:
            boxes = output.regions.propose()
            logits = output.regions.classify(boxes)[1].float()
            scores = list(torch.split(logits.softmax(dim=1)[:, 1:], [len(value) for value in boxes]))
        else:
            raise ValueError("this detector shows neither a one-stage head nor a second stage, so it detects nothing")
        return [_best(*image) for image in zip(boxes, scores, sizes, strict=True)]

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        features = self.stem(images)
        maps: list[Tensor] = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        maps = [layer(value) for layer, value in zip(self.lateral, maps, strict=True)]
        for level in range(len(maps) - 2, -1, -1):
            maps[level] = maps[level] + interpolate(maps[level + 1], size=maps[level].shape[-2:])
        return maps

    def _dense(self, pyramid: list[Tensor], targets: Targets | None) -> TinyDense:
        classes, class_tower = self.head("classification", pyramid)
        boxes, box_tower = self.head("regression", pyramid)
        towers: dict[Branch, list[list[Tensor]]] = {"classification": class_tower, "regression": box_tower}
        return TinyDense(
            self.head,
            pass_through(self.classification, classes),
            pass_through(self.regression, boxes),
            list(STRIDES),
            targets,
            towers if self.keep_towers else {},
        )


def scene_batch(batch_size: int = 4, seed: int = 0, *, boxes: bool = True) -> Scenes:
    """Coloured rectangles on noise; the rectangle's colour channel is its class.

    Images are padded to 32 by 32 pixels, but for the first they are smaller. Of several images the last has no box.

    Args:
        batch_size: number of images ``N``.
        seed: seed of the scenes.
        boxes: whether there are any boxes at all.

    Returns:
        Images, sizes and targets, as :class:`TinyDetector` is called with them.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(batch_size, 3, SCENE_SIZE, SCENE_SIZE)
    sizes: list[tuple[int, int]] = []
    targets: Targets = []
    for position in range(batch_size):
        height, width = ((32, 32), (32, 26), (24, 32))[position % 3]
        images[position, :, :height, :width] = 0.3 * torch.randn(3, height, width, generator=generator)
        count = 1 + position % 3 if boxes and (batch_size == 1 or position < batch_size - 1) else 0
        labels = torch.randint(SCENE_CLASSES, (count,), generator=generator)
        corners = [_rectangle(height, width, generator) for _ in range(count)]
        for (x1, y1, x2, y2), label in zip(corners, labels.tolist(), strict=True):
            images[position, label, y1:y2, x1:x2] += 1.5
        sizes.append((height, width))
        targets.append({"boxes": torch.tensor(corners, dtype=torch.float32).reshape(-1, 4), "labels": labels})
    return images, sizes, targets


def scene_samples(count: int) -> list[tuple[Tensor, tuple[int, int], dict[str, Tensor]]]:
    """Scenes one by one, for a data loader; every eighth has no box.

    Args:
        count: number of scenes.
    """
    batches = [scene_batch(8, seed) for seed in range(-(-count // 8))]
    return [sample for batch in batches for sample in zip(*batch, strict=True)][:count]


def collate_scenes(samples: list[tuple[Tensor, tuple[int, int], dict[str, Tensor]]]) -> dict[str, Any]:
    """A batch ``{"images", "sizes", "targets"}`` of samples as :func:`scene_samples` makes them."""
    images, sizes, targets = zip(*samples, strict=True)
    return {"images": torch.stack(images), "sizes": list(sizes), "targets": list(targets)}


def map_predictions(output: DetectionOutput, function: Callable[[Tensor], Tensor]) -> DetectionOutput:
    """A copy of an output whose maps, logits and embeddings went through ``function``.

    Args:
        output: what a :class:`TinyDetector` returned.
        function: called with one tensor after another.
    """

    def each(maps: list[Tensor]) -> list[Tensor]:
        return [function(value) for value in maps]

    mapped = copy.copy(output)
    mapped.pyramid = each(output.pyramid)
    if output.dense is not None:
        dense = mapped.dense = copy.copy(output.dense)
        dense.class_logits, dense.box_regression = each(dense.class_logits), each(dense.box_regression)
        dense.towers = {branch: [each(maps) for maps in tower] for branch, tower in dense.towers.items()}
    if output.regions is not None:
        regions = mapped.regions = copy.copy(output.regions)
        for name in ("embeddings", "class_logits", "box_regression"):
            value = getattr(regions, name)
            setattr(regions, name, None if value is None else function(value))
    return mapped


def _rectangle(height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    w, h = torch.randint(6, 17, (2,), generator=generator).tolist()
    x = int(torch.randint(width - w + 1, (), generator=generator))
    y = int(torch.randint(height - h + 1, (), generator=generator))
    return x, y, x + w, y + h


def _best(boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """The detections of an image: of overlapping boxes of one class only that with the highest score."""
    height, width = size
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    position, label = (scores >= _MIN_SCORE).nonzero(as_tuple=True)
    order = scores[position, label].argsort(descending=True)
    position, label = position[order], label[order]
    clashes = (iou(boxes[position], boxes[position]) > _MAX_OVERLAP) & (label[:, None] == label)
    kept: list[int] = []
    for index in range(len(position)):
        if len(kept) < _MAX_DETECTIONS and not clashes[index, kept].any():
            kept.append(index)
    chosen = torch.tensor(kept, dtype=torch.long, device=boxes.device)
    position, label = position[chosen], label[chosen]
    return {"boxes": boxes[position], "scores": scores[position, label], "labels": label}
