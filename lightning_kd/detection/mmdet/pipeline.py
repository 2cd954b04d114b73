"""Batches of mmdet's own data pipelines as the arguments of the call that is distilled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_kd.detection.mmdet.samples import Sizes
from lightning_kd.detection.network import Targets


def is_pipeline_batch(batch: Any) -> bool:
    """Whether a batch is ``{"inputs": ..., "data_samples": ...}``, as ``pseudo_collate`` makes it."""
    return isinstance(batch, Mapping) and {"inputs", "data_samples"} <= set(batch)


def prepare(batch: Any, preprocessor: Any, label_offset: int, *, training: bool) -> tuple[Tensor, Sizes, Targets]:
    """Normalize and pad with the detector's own preprocessor.

    Objects that mmdet would ignore are left out.

    Args:
        batch: see :func:`is_pipeline_batch`.
        preprocessor: the detector's ``data_preprocessor``.
        label_offset: the label of the first class.
        training: whether to augment the batch, where the config says so.

    Returns:
        Images ``(N, 3, H, W)``, sizes without padding, and targets.
    """
    prepared = preprocessor(dict(batch), training)
    samples = prepared["data_samples"]
    sizes = [(int(sample.img_shape[0]), int(sample.img_shape[1])) for sample in samples]
    return prepared["inputs"], sizes, targets_of(samples, label_offset)


def targets_of(samples: list[Any], label_offset: int) -> Targets:
    """Boxes and labels of ``DetDataSample``.

    Args:
        samples: with ``gt_instances``.
        label_offset: the label of the first class.
    """
    return [
        {
            "boxes": _corners(sample.gt_instances.bboxes),
            "labels": sample.gt_instances.labels + label_offset,
        }
        for sample in samples
    ]


def original_sizes(samples: list[Any]) -> Sizes:
    """``(height, width)`` of the images that were read."""
    return [(int(sample.ori_shape[0]), int(sample.ori_shape[1])) for sample in samples]


def _corners(boxes: Any) -> Tensor:
    found: Tensor = boxes if isinstance(boxes, Tensor) else boxes.tensor
    return found
