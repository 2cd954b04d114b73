"""Boxes in pixels as masks on the grid of a feature map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_kd.methods.detection._boxes import box_iou


def focal_masks(boxes: Sequence[Tensor], feature: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Weights of the foreground's and of the background's cells.

    A box covers the cells from the floor of its lower to the ceiling of its upper edges, both included, and they weigh
    one over their number; where boxes overlap, the smallest counts. Boxes are clamped to the image; one that lies
    outside of it covers nothing. A ceiling may point one cell beyond the map: that one counts in the number of cells,
    as it does in the authors' code. Every cell that no box covers weighs one over the number of such cells.

    Args:
        boxes: for every image ``(G, 4)`` as ``x1, y1, x2, y2`` in pixels.
        feature: ``(N, C, H, W)``; gives the grid, the device and the dtype.
        image_size: height and width in pixels of the padded images.

    Returns:
        ``(N, H, W)`` each: the weight of the cells, 0 elsewhere.

    Raises:
        ValueError: unless there is one tensor of boxes for every image.
    """
    check_boxes(boxes, feature)
    foreground = _foreground(boxes, feature, image_size)
    background = (foreground == 0).to(foreground.dtype)
    return foreground, background / background.sum((1, 2), keepdim=True).clamp(min=1)


def near_object_mask(boxes: Sequence[Tensor], anchors: Tensor, feature: Tensor, threshold: float) -> Tensor:
    """Positions with an anchor that overlaps a box nearly as well as the best anchor of this level does.

    Args:
        boxes: for every image ``(G, 4)`` as ``x1, y1, x2, y2`` in pixels.
        anchors: ``(P, 4)`` in pixels, in the order row, column, anchor.
        feature: ``(N, C, H, W)`` of the level; gives the grid, the device and the dtype.
        threshold: share of the best overlap (IoU) that an anchor must exceed.

    Returns:
        ``(N, H, W)``, of zeros and ones.

    Raises:
        ValueError: unless there is one tensor of boxes for every image, and every position has its anchors.
    """
    check_boxes(boxes, feature)
    height, width = feature.shape[2:]
    if not len(anchors) or len(anchors) % (height * width):
        raise ValueError(
            f"expected the same number of anchors at each of the {height} x {width} positions of the feature map, got "
            f"{len(anchors)} anchors; feature and anchors must be of the same level"
        )
    masks = []
    for image_boxes in boxes:
        overlaps = box_iou(anchors.to(feature)[:, None], image_boxes.reshape(-1, 4).to(feature))
        if overlaps.shape[1]:
            near = (overlaps > threshold * overlaps.amax(0)).any(1)
        else:
            near = overlaps.new_zeros(len(anchors), dtype=torch.bool)
        masks.append(near.view(height, width, -1).any(2))
    return torch.stack(masks).to(feature.dtype)


def check_boxes(boxes: Sequence[Tensor], feature: Tensor) -> None:
    """Raise ``ValueError`` unless there is one tensor of boxes for every image of ``feature``."""
    if len(boxes) != feature.shape[0]:
        raise ValueError(
            f"expected one tensor of boxes for each of {feature.shape[0]} images, got {len(boxes)}; an image without "
            "objects gets an empty one, of shape (0, 4)"
        )


def _foreground(boxes: Sequence[Tensor], feature: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = feature.shape[2:]
    # what is filled up lies outside of the image and covers nothing
    padded = pad_sequence([image.reshape(-1, 4).to(feature) for image in boxes], batch_first=True, padding_value=-1.0)
    if not padded.shape[1]:
        return feature.new_zeros((len(boxes), height, width))
    x1, y1, x2, y2 = padded.unbind(2)
    rows, tall = _cells(y1, y2, height, image_size[0])
    columns, wide = _cells(x1, x2, width, image_size[1])
    weight = (1 / (tall * wide))[:, :, None, None]
    return torch.where(rows[:, :, :, None] & columns[:, :, None, :], weight, 0).amax(1)


def _cells(low: Tensor, high: Tensor, cells: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Which cells of one axis each box covers, ``(N, G, cells)``, and their number, ``(N, G)``."""
    first = (low.clamp(0, pixels) * cells / pixels).floor().clamp(max=cells - 1)
    last = (high.clamp(0, pixels) * cells / pixels).ceil()
    cell = torch.arange(cells, device=low.device)
    meets_image = (high >= 0) & (low <= pixels)
    covered = (cell >= first[:, :, None]) & (cell <= last[:, :, None]) & meets_image[:, :, None]
    return covered, last + 1 - first
