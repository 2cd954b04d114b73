"""What the detectors of torchvision have in common as detection networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes

from lightning_kd.detection.network import DetectionNetwork, Targets, pass_through

Detections = list[dict[str, Tensor]]
"""For every image ``boxes`` (D, 4) as x1, y1, x2, y2 in pixels, ``scores`` (D,) and ``labels`` (D,)."""


class TorchvisionNetwork(DetectionNetwork):
    """A detector of torchvision behind the call that is distilled.

    Labels are those of torchvision: from 1 to ``num_classes - 1``, 0 being the background. One-stage detectors have no
    use for a background; they accept an object of label 0.

    Args:
        model: the torchvision model. It stays as it is, and can be used and saved on its own.
        levels: number of the pyramid's levels.
        num_classes: number of classes, background included.

    Attributes:
        model: the torchvision model.
        num_classes: number of classes, background included.
    """

    lowest_label = 0
    """Smallest label of an object."""

    def __init__(self, model: nn.Module, levels: int, num_classes: int) -> None:
        super().__init__(levels)
        self.model: Any = model
        self.num_classes = num_classes

    def transform(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None
    ) -> tuple[Tensor, list[tuple[int, int]], Targets | None]:
        """Normalize, resize and pad images with the model's own transform, which draws a size in training mode.

        Args:
            images: ``(3, H, W)`` in [0, 1], of any sizes.
            targets: ``boxes`` in pixels and ``labels`` of every image; they are not changed.

        Returns:
            The arguments of the network.
        """
        batch, moved = self.model.transform(list(images), None if targets is None else list(targets))
        return batch.tensors, batch.image_sizes, moved

    def to_original(
        self, detections: Detections, sizes: list[tuple[int, int]], original_sizes: list[tuple[int, int]]
    ) -> Detections:
        """Bring boxes from the pixels of the transformed images to those of the originals.

        Args:
            detections: as :meth:`detect` returns them.
            sizes: ``(height, width)`` of the transformed images without their padding.
            original_sizes: ``(height, width)`` of the originals.
        """
        images = zip(detections, sizes, original_sizes, strict=True)
        return [{**found, "boxes": resize_boxes(found["boxes"], size, original)} for found, size, original in images]

    def features(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """The pyramid's maps by the names that torchvision gives them, finest first."""
        found = self.model.backbone(images)
        if isinstance(found, Tensor):
            found = {"0": found}
        return OrderedDict(zip(found, pass_through(self.pyramid, list(found.values())), strict=True))

    def check_targets(self, targets: Targets, sizes: list[tuple[int, int]]) -> None:
        """Refuse what the detector cannot learn from.

        Raises:
            ValueError: unless there is one target an image, with boxes of positive size and known labels.
            TypeError: if labels are not int64.
        """
        if len(targets) != len(sizes):
            raise ValueError(f"expected one target for each of {len(sizes)} images, got {len(targets)}")
        for position, target in enumerate(targets):
            self._check_target(target["boxes"], target["labels"], position)

    def _check_target(self, boxes: Tensor, labels: Tensor, position: int) -> None:
        if boxes.dim() != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
            raise ValueError(
                f"expected boxes of shape (G, 4) and labels of shape (G,), got {tuple(boxes.shape)} and "
                f"{tuple(labels.shape)} for target at index {position}; an image without objects has boxes of shape "
                "(0, 4)"
            )
        if labels.dtype != torch.int64:
            raise TypeError(f"expected labels of type int64, got {labels.dtype} for target at index {position}")
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
        unknown = (labels < self.lowest_label) | (labels >= self.num_classes)
        if not (empty | unknown).any():
            return
        if empty.any():
            raise ValueError(
                "All bounding boxes should have positive height and width. Found invalid box "
                f"{boxes[empty][0].tolist()} for target at index {position}. Boxes are x1, y1, x2, y2 in pixels; leave "
                "out those without area where the data is loaded."
            )
        raise ValueError(
            f"expected labels from {self.lowest_label} to {self.num_classes - 1}, got {int(labels[unknown][0])} for "
            f"target at index {position}; num_classes={self.num_classes} counts the background, whose label is 0"
        )


def on_images(images: Tensor, sizes: list[tuple[int, int]]) -> ImageList:
    """Padded images and their sizes as torchvision hands them around."""
    return ImageList(images, sizes)


def anchors_of(generator: Any, images: ImageList, maps: Sequence[Tensor]) -> list[Tensor]:
    """Anchors of every image over all levels, ``(sum of P, 4)``, in at least float32.

    Torchvision makes them in the type of the maps; in half precision they would be off by pixels.
    """
    dtype = torch.promote_types(maps[0].dtype, torch.float32)
    # only the shapes and the type are looked at
    shapes = [value.new_empty((), dtype=dtype).expand(value.shape) for value in maps]
    found: list[Tensor] = generator(images, shapes)
    return found
