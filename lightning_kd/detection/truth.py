"""The ground truth of a step in the coordinates of the maps, from our detectors or from a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_kd.detection.output import DetectionOutput
from lightning_kd.engine.exchange import Exchange


@dataclass(frozen=True)
class GroundTruth:
    """Boxes of a batch.

    Attributes:
        boxes: for every image ``(G, 4)`` as ``x1, y1, x2, y2`` in pixels of the padded batch.
        labels: for every image ``(G,)``.
        image_size: ``(H, W)`` of the padded batch.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    image_size: tuple[int, int]


def ground_truth(exchange: Exchange) -> GroundTruth:
    """Find the boxes that belong to the images which the networks received.

    Our detectors hand their transformed targets to the network. For other detectors the target (see ``target=`` of the
    doors) must be a list of ``{"boxes": ..., "labels": ...}`` in pixels of the network's 4-D input.

    Raises:
        ValueError: if there are no such targets, or no 4-D image tensor to which they could refer.
    """
    targets, size = _given(exchange), _image_size(exchange)
    if not _are_targets(targets):
        raise ValueError(
            "this method needs ground-truth boxes, but found "
            f"{type(targets).__name__} as the target; pass `target=` as a callable that takes the batch and returns a "
            'list with {"boxes": (G, 4) in pixels of the network\'s input, "labels": (G,)} for every image'
        )
    return GroundTruth([item["boxes"] for item in targets], [item["labels"] for item in targets], size)


def _given(exchange: Exchange) -> Any:
    handed = (*exchange.inputs, *exchange.kwargs.values())
    return next((value for value in handed if _are_targets(value)), exchange.target)


def _are_targets(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(item, Mapping) and "boxes" in item and "labels" in item for item in value
    )


def _image_size(exchange: Exchange) -> tuple[int, int]:
    for view in (exchange.student, *exchange.teachers):
        if isinstance(view.output, DetectionOutput):
            return view.output.image_size
    images = exchange.images
    if images.dim() != 4:
        raise ValueError(
            f"this method needs the size of the padded images, but the network's first tensor has shape "
            f"{tuple(images.shape)}; expected (N, 3, H, W)"
        )
    return int(images.shape[2]), int(images.shape[3])
