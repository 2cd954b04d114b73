"""Images and boxes as mmdet's test pipelines prepare them: resized, normalized, padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.detection.mmdet.samples import Sizes
from lightning_kd.detection.network import Targets

Scale = tuple[int, int]
"""The longer side at most, and the shorter side at most, in pixels."""

DEFAULT_SCALE: Scale = (1333, 800)
"""That of mmdet's COCO configs."""


def as_scales(scale: Scale | Sequence[Scale]) -> tuple[Scale, ...]:
    """One or several sizes as a tuple of them.

    Raises:
        ValueError: if it is neither.

    >>> as_scales((1333, 800)), as_scales([(1333, 640), (1333, 800)])
    (((1333, 800),), ((1333, 640), (1333, 800)))
    """
    listed: Sequence[Any] = [scale] if scale and isinstance(scale[0], int) else scale
    if not listed or not all(len(each) == 2 and min(each) > 0 for each in listed):
        raise ValueError(f"expected a scale (longer side, shorter side) in pixels, or several, got {scale}")
    return tuple((int(each[0]), int(each[1])) for each in listed)


def scale_of(config: Any) -> Scale:
    """The size of a config's test images, or :data:`DEFAULT_SCALE` where none is named."""
    for step in config.get("test_pipeline") or []:
        if step.get("type") == "Resize" and step.get("scale") is not None:
            long, short = max(step["scale"]), min(step["scale"])
            return int(long), int(short)
    return DEFAULT_SCALE


def transform_batch(
    images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None, preprocessor: Any, scale: Scale
) -> tuple[Tensor, Sizes, Targets | None]:
    """Resize (the ratio is kept), normalize and pad.

    mmdet reads images as BGR. Where its preprocessor turns channels around, the detector sees RGB, else BGR.

    Args:
        images: ``(3, H, W)`` in [0, 1], RGB, of any sizes.
        targets: ``boxes`` in pixels and ``labels`` of every image; they are not changed.
        preprocessor: the detector's ``data_preprocessor``.
        scale: the size of images.

    Returns:
        Images ``(N, 3, H, W)``, their sizes without padding, and the targets in pixels of these.

    Raises:
        ValueError: if an image has another shape.
    """
    for position, image in enumerate(images):
        if image.dim() != 3 or image.shape[0] != 3:
            raise ValueError(f"expected images of shape (3, H, W), got {tuple(image.shape)} at index {position}")
    sizes = [_size(image, scale) for image in images]
    resized = [_normalized(_resized(image, size), preprocessor) for image, size in zip(images, sizes, strict=True)]
    divisor = int(getattr(preprocessor, "pad_size_divisor", 1))
    height, width = (-(-max(side) // divisor) * divisor for side in zip(*sizes, strict=True))
    batch = resized[0].new_full((len(resized), 3, height, width), float(getattr(preprocessor, "pad_value", 0)))
    for place, image in zip(batch, resized, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    if targets is None:
        return batch, sizes, None
    originals = [(image.shape[1], image.shape[2]) for image in images]
    return batch, sizes, [_moved(*each) for each in zip(targets, originals, sizes, strict=True)]


def resize_boxes(boxes: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Boxes ``(G, 4)`` of an image ``(height, width)`` after its resizing."""
    down, right = (new / old for new, old in zip(new_size, size, strict=True))
    return boxes * boxes.new_tensor([right, down, right, down])


def _size(image: Tensor, scale: Scale) -> tuple[int, int]:
    height, width = image.shape[1:]
    factor = min(scale[0] / max(height, width), scale[1] / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if (image.shape[1], image.shape[2]) == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]


def _normalized(image: Tensor, preprocessor: Any) -> Tensor:
    channels = image if preprocessor._channel_conversion else image.flip(0)
    values = channels * 255
    if not preprocessor._enable_normalize:
        return values
    mean: Tensor = preprocessor.mean.to(values)
    std: Tensor = preprocessor.std.to(values)
    return (values - mean) / std


def _moved(target: dict[str, Tensor], size: tuple[int, int], new_size: tuple[int, int]) -> dict[str, Tensor]:
    return {**target, "boxes": resize_boxes(target["boxes"], size, new_size)}
