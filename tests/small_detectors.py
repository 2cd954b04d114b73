"""Detectors of torchvision that are small enough for tests, and images with coloured rectangles for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_kd.detection import create_detector

CLASSES = 4
SMALL = {"min_size": 64, "max_size": 96, "pyramid_channels": 32, "anchor_sizes": (8, 16, 32, 64, 128)}
REGIONS = {"head_width": 16, "rpn_post_nms_top_n_train": 50, "box_batch_size_per_image": 32}
OPTIONS: dict[str, dict[str, Any]] = {
    "retinanet_resnet18_fpn": SMALL,
    "retinanet_resnet34_fpn": SMALL,
    "retinanet_mobilenet_v2_fpn": SMALL,
    "retinanet_resnet18_fpn_v2": SMALL,
    "fcos_resnet18_fpn": {**SMALL, "pyramid_channels": 64},
    "fasterrcnn_resnet18_fpn": {**SMALL, **REGIONS},
    "fasterrcnn_resnet18_fpn_v2": {**SMALL, **REGIONS},
    "fasterrcnn_mobilenet_v2_fpn": {**SMALL, **REGIONS},
}

Sample = tuple[Tensor, dict[str, Tensor]]


def small_detector(name: str, seed: int = 0, **options: Any) -> Any:
    """A detector whose weights follow from the seed."""
    torch.manual_seed(seed)
    return create_detector(name, CLASSES, **{**OPTIONS[name], **options})


def sample(seed: int, boxes: int | None = None) -> Sample:
    """An image with rectangles whose colour channel tells their class."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    height, width = ((64, 80), (48, 56), (72, 60))[seed % 3]
    image = 0.2 * torch.rand(3, height, width, generator=generator)
    corners, labels = [], []
    for _ in range(1 + seed % 3 if boxes is None else boxes):
        w, h, label = draw(10, 32), draw(10, 32), draw(1, CLASSES)
        x, y = draw(0, width - w), draw(0, height - h)
        image[label - 1, y : y + h, x : x + w] = 0.9
        corners.append((x, y, x + w, y + h))
        labels.append(label)
    return image, {
        "boxes": torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels).long(),
    }


def batch(seeds: tuple[int, ...] = (0, 1), **kwargs: Any) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images and targets as torchvision takes them."""
    return collate([sample(seed, **kwargs) for seed in seeds])


def collate(samples: list[Sample]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Lists of images and of targets."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def detection_loader(count: int = 4, batch_size: int = 2) -> DataLoader[Any]:
    """Batches in a fixed order."""
    return DataLoader([sample(seed) for seed in range(count)], batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]
