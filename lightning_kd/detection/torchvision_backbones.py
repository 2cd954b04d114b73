"""Backbones of torchvision under a feature pyramid."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

_RESNET = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
# the last block at each stride
_MOBILENET_V2 = {"3": 4, "6": 8, "13": 16, "17": 32}
BACKBONES = {**dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101"), _RESNET), "mobilenet_v2": _MOBILENET_V2}
"""Name of a backbone → its last layer at each stride."""


def pyramid_backbone(
    name: str,
    *,
    weights: Any,
    channels: int,
    first_stride: int,
    freezes_statistics: bool,
    extra_levels_from_body: bool,
    normalized: bool,
    trainable_layers: int | None,
) -> BackboneWithFPN:
    """A backbone with a pyramid of five levels.

    Args:
        name: one of :data:`BACKBONES`.
        weights: the backbone's weights, or ``None``.
        channels: channels of the pyramid's maps.
        first_stride: 4 for four levels and a pooled one, 8 for three levels and two more by convolutions.
        freezes_statistics: whether batch normalization is frozen.
        extra_levels_from_body: whether these convolutions start from the body's last map, not from the pyramid's.
        normalized: whether the pyramid's convolutions are followed by batch normalization.
        trainable_layers: how many of five stages are trained, from the last; all without weights, else by default 3.

    Raises:
        ValueError: if ``trainable_layers`` is not from 0 to 5.
    """
    norm = FrozenBatchNorm2d if freezes_statistics else nn.BatchNorm2d
    network = torchvision.models.get_model(name, weights=weights, norm_layer=norm)
    if trainable_layers is None:
        trainable_layers = 5 if weights is None else 3
    _freeze(network, BACKBONES[name], trainable_layers)
    body = network.features if name == "mobilenet_v2" else network
    layers = [layer for layer, stride in BACKBONES[name].items() if stride >= first_stride]
    widths = [_width(body.get_submodule(layer)) for layer in layers]
    last = LastLevelMaxPool()
    if first_stride > 4:
        last = LastLevelP6P7(widths[-1] if extra_levels_from_body else channels, channels)
    return BackboneWithFPN(
        body,
        {layer: str(position) for position, layer in enumerate(layers)},
        widths,
        channels,
        extra_blocks=last,
        norm_layer=nn.BatchNorm2d if normalized else None,
    )


def _width(stage: nn.Module) -> int:
    """Output channels of a block of MobileNetV2, or of the last block of a ResNet's stage."""
    named = getattr(stage, "out_channels", None)
    if isinstance(named, int):
        return named
    *_, block = stage.children()
    return [layer for layer in block.children() if isinstance(layer, nn.Conv2d)][-1].out_channels


def _freeze(network: nn.Module, stages: dict[str, int], trainable: int) -> None:
    if not 0 <= trainable <= 5:
        raise ValueError(f"trainable_layers must be from 0 to 5, got {trainable}")
    frozen = 5 - trainable
    ends = list(stages)
    if ends[0].isdecimal():
        # blocks are numbered: a stage goes from the last one's end to its own
        limits = [-1, 1, *map(int, ends)]
        blocks = [f"features.{number}." for number in range(limits[frozen] + 1)]
    else:
        blocks = [*(["conv1.", "bn1."] if frozen else []), *(f"{stage}." for stage in ends[: max(frozen - 1, 0)])]
    for name, parameter in network.named_parameters():
        if name.startswith(tuple(blocks)):
            parameter.requires_grad_(False)
