"""ShuffleNetV2 of width 1, as the CIFAR-100 protocol uses it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from kd_bench.models.cifar._shuffle import channel_shuffle
from kd_bench.models.registry import register

STEM = 24


class ShuffleUnit(nn.Module):
    """Half of the channels pass, the other half are transformed; then the halves are interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` → ``(B, C, H, W)``."""
        kept, changed = x.chunk(2, dim=1)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(changed)))))
        out = self.relu3(self.bn3(self.conv3(out)))
        return channel_shuffle(torch.cat([kept, out], dim=1), 2)


class DownUnit(nn.Module):
    """Two branches of stride 2 over the same input, interleaved."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, 2, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu5 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / 2, W / 2)``."""
        left = self.relu2(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(self.relu3(self.bn3(self.conv3(x)))))
        right = self.relu5(self.bn5(self.conv5(right)))
        return channel_shuffle(torch.cat([left, right], dim=1), 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 with stages of 116, 232 and 464 channels after a 1×1 stem, and 1,024 features in the end.

    The stem is tapped as ``"relu"``, the stages as ``"layer1"`` to ``"layer3"`` (after their last ReLU), the pooled
    features as ``"linear:input"``.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.

    Reference: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018,
    arXiv:1807.11164.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3")

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU()
        self.layer1 = _stage(STEM, 116, units=3)
        self.layer2 = _stage(116, 232, units=7)
        self.layer3 = _stage(232, 464, units=3)
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu2 = nn.ReLU()
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        out = self.relu2(self.bn2(self.conv2(out)))
        return self.linear(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


def _stage(in_channels: int, channels: int, units: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(in_channels, channels), *(ShuffleUnit(channels) for _ in range(units)))


register("shufflenet_v2", ShuffleNetV2, "ShuffleV2", "shufflev2", "cifar_ShuffleV2")
