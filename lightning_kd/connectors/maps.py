"""Bring features of different layouts and sizes into one form: the channels-first map ``(B, C, H, W)``."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# No extra token, class token, class and distillation token, class token and four registers.
_PREFIX_TOKENS = (0, 1, 2, 5)


def to_map(feature: Tensor) -> Tensor:
    """View a feature as a channels-first map.

    Maps stay as they are. Tokens become a square grid; leading class, distillation and register tokens are dropped.
    Channels-last maps (Swin) cannot be told from channels-first ones by their shape: the taps that ``layers="auto"``
    finds permute them, and so does a tap named ``"layer:nhwc"``.

    Args:
        feature: ``(B, C, H, W)`` or tokens ``(B, N, D)``.

    Returns:
        ``(B, C, H, W)``.

    Raises:
        ValueError: if the feature has another rank, or its tokens form no square grid.

    >>> import torch
    >>> to_map(torch.zeros(2, 197, 192)).shape
    torch.Size([2, 192, 14, 14])
    """
    if feature.dim() == 4:
        return feature
    if feature.dim() == 3:
        return _tokens_to_map(feature)
    raise ValueError(
        f"expected a feature map (B, C, H, W) or tokens (B, N, D), got shape {tuple(feature.shape)}; tap a layer with "
        "a spatial extent, for example a stage before the pooling"
    )


def _tokens_to_map(tokens: Tensor) -> Tensor:
    batch, count, width = tokens.shape
    for prefix in _PREFIX_TOKENS:
        side = math.isqrt(max(count - prefix, 0))
        if side > 0 and side * side == count - prefix:
            return tokens[:, prefix:].transpose(1, 2).reshape(batch, width, side, side)
    raise ValueError(
        f"the {count} tokens of shape {tuple(tokens.shape)} form no square grid, with or without "
        f"{_PREFIX_TOKENS[1:]} leading special tokens; tap a layer that returns a map, or wrap the layer so that it "
        "returns (B, C, H, W)"
    )


def pool_to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool two maps to the smaller of their heights and widths.

    Args:
        student: ``(B, C_s, H_s, W_s)``.
        teacher: ``(B, C_t, H_t, W_t)``.

    Returns:
        Both maps with spatial size ``(min(H_s, H_t), min(W_s, W_t))``.
    """
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return _pool(student, size), _pool(teacher, size)


def _pool(feature: Tensor, size: tuple[int, int]) -> Tensor:
    return feature if tuple(feature.shape[2:]) == size else F.adaptive_avg_pool2d(feature, size)


def resize_map(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a map to ``size``: average pooling to shrink, bilinear interpolation to grow.

    Args:
        feature: ``(B, C, H, W)``.
        size: wanted height and width.

    Returns:
        ``(B, C, *size)``.
    """
    height, width = feature.shape[2:]
    if (height, width) == size:
        return feature
    feature = _pool(feature, (min(height, size[0]), min(width, size[1])))
    if tuple(feature.shape[2:]) == size:
        return feature
    return F.interpolate(feature, size, mode="bilinear", align_corners=False)


def pooled(feature: Tensor) -> Tensor:
    """Average a feature over its positions.

    Args:
        feature: ``(B, D)``, tokens ``(B, N, D)`` or a map ``(B, D, H, W)``.

    Returns:
        ``(B, D)``.

    Raises:
        ValueError: if the feature has another rank.
    """
    if feature.dim() == 2:
        return feature
    if feature.dim() == 3:
        return feature.mean(1)
    return to_map(feature).mean((2, 3))


def like_parameters(feature: Tensor, module: nn.Module) -> Tensor:
    """Cast a feature to the dtype of ``module``'s parameters, if it has any, unless autocast does so anyway."""
    parameter = next(module.parameters(), None)
    if parameter is None or torch.is_autocast_enabled(feature.device.type):
        return feature
    return feature.to(parameter.dtype)
