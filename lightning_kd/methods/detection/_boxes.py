"""Overlap of boxes: IoU, generalized IoU and distance IoU, with gradients that stay finite for boxes without area."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_kd.methods.checks import at_least_float32

_EPS = 1e-6
"""Square pixels up to which an area counts as none."""


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union.

    Args:
        boxes: ``(..., 4)`` as ``x1, y1, x2, y2``; ``boxes[:, None]`` against ``others`` gives all pairs.
        others: ``(..., 4)``, broadcast against ``boxes``.

    Returns:
        ``(...)`` in at least float32; 0 with a gradient of 0 where neither box has an area.
    """
    overlap, union = _areas(at_least_float32(boxes), at_least_float32(others))
    return _ratio(overlap, union)


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU minus the share of the hull, the smallest box around both, that neither covers.

    Args:
        boxes: as for :func:`box_iou`.
        others: as for :func:`box_iou`.

    Returns:
        ``(...)`` between -1 and 1.

    Reference: Rezatofighi et al., "Generalized Intersection over Union: A Metric and A Loss for Bounding Box
    Regression", CVPR 2019, arXiv:1902.09630.
    """
    boxes, others = at_least_float32(boxes), at_least_float32(others)
    overlap, union = _areas(boxes, others)
    hull = _hull(boxes, others).prod(-1)
    return _ratio(overlap, union) - _ratio(hull - union, hull)


def distance_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU minus the squared distance of the centres over the squared diagonal of the smallest box around both.

    Args:
        boxes: as for :func:`box_iou`.
        others: as for :func:`box_iou`.

    Returns:
        ``(...)`` between -1 and 1.

    Reference: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020,
    arXiv:1911.08287.
    """
    boxes, others = at_least_float32(boxes), at_least_float32(others)
    overlap, union = _areas(boxes, others)
    distance = ((boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2).square().sum(-1)
    return _ratio(overlap, union) - _ratio(distance, _hull(boxes, others).square().sum(-1))


def _areas(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    return overlap, _area(boxes) + _area(others) - overlap


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _hull(boxes: Tensor, others: Tensor) -> Tensor:
    """Width and height of the smallest box around both."""
    low = torch.minimum(boxes[..., :2], others[..., :2])
    high = torch.maximum(boxes[..., 2:], others[..., 2:])
    return (high - low).clamp(min=0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    counts = whole > _EPS
    # the inner `where` keeps the division, and with it the gradient, finite where the outer one drops its result
    return torch.where(counts, part / torch.where(counts, whole, 1), 0)
