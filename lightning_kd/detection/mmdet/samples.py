"""Our batches in the form that mmdet's heads take, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_kd.detection.network import Targets

Sizes = list[tuple[int, int]]
"""``(height, width)`` of every image without its padding."""


def image_infos(sizes: Sizes, image_size: tuple[int, int], divisor: int) -> list[dict[str, Any]]:
    """What mmdet's heads ask about every image.

    Args:
        sizes: of the images without padding.
        image_size: ``(H, W)`` of the padded batch.
        divisor: the batch is padded to multiples of it.
    """
    return [
        {
            "img_shape": size,
            # the image padded alone: anchors outside of it take no part in the loss
            "pad_shape": tuple(-(-side // divisor) * divisor for side in size),
            "batch_input_shape": image_size,
            "ori_shape": size,
            "scale_factor": (1.0, 1.0),
        }
        for size in sizes
    ]


def instances(boxes: list[Tensor], labels: list[Tensor]) -> list[Any]:
    """``InstanceData`` of every image."""
    from mmengine.structures import InstanceData

    return [InstanceData(bboxes=box, labels=label) for box, label in zip(boxes, labels, strict=True)]


def ground_truth_instances(targets: Targets, num_classes: int, label_offset: int) -> list[Any]:
    """The targets with labels from 0 on.

    Args:
        targets: with labels from ``label_offset`` on.
        num_classes: number of classes without the background.
        label_offset: the label of the first class.

    Raises:
        ValueError: if a label is no class.
    """
    labels = [target["labels"] - label_offset for target in targets]
    everything = torch.cat(labels)
    if len(everything) and not (int(everything.min()) >= 0 and int(everything.max()) < num_classes):
        raise ValueError(
            f"expected labels from {label_offset} to {label_offset + num_classes - 1}, got "
            f"{int(everything.min()) + label_offset} to {int(everything.max()) + label_offset}; set the network's "
            "`label_offset` to the label of the first class (1 where 0 is the background), or its `num_classes`"
        )
    return instances([target["boxes"].float() for target in targets], labels)


def detections(results: list[Any], label_offset: int) -> list[dict[str, Tensor]]:
    """Boxes, scores and labels of every image, from mmdet's results."""
    return [
        {"boxes": found.bboxes, "scores": found.scores, "labels": found.labels.long() + label_offset}
        for found in results
    ]


def scalar_losses(losses: dict[str, Any]) -> dict[str, Tensor]:
    """One number a loss, as mmengine adds them up: levels are summed, elements averaged, and the rest is no loss.

    Args:
        losses: what a head of mmdet returns.
    """
    return {
        name: sum(part.mean() for part in value) if isinstance(value, list | tuple) else value.mean()
        for name, value in losses.items()
        if "loss" in name
    }
