"""ShuffleNet with three groups, as the CIFAR-100 protocol uses it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from kd_bench.models.cifar._shuffle import channel_shuffle
from kd_bench.models.registry import register

GROUPS = 3
STEM = 24


class ShuffleUnit(nn.Module):
    """Grouped 1×1 convolution, channel shuffle, 3×3 depthwise convolution, grouped 1×1 convolution.

    With stride 1 its result is added to the input; with stride 2 it supplies the channels that the average-pooled input
    lacks. ``"relu3:input"`` taps the unit before its activation.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        added = channels - in_channels if stride == 2 else channels
        width = added // 4
        # The stem's channels are too few to be split into groups.
        self.groups = 1 if in_channels == STEM else GROUPS
        self.conv1 = nn.Conv2d(in_channels, width, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, added, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(added)
        self.relu3 = nn.ReLU()
        self.pool = nn.AvgPool2d(3, 2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / stride, W / stride)``."""
        out = channel_shuffle(self.relu1(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        out = out + x if self.pool is None else torch.cat([out, self.pool(x)], dim=1)
        return self.relu3(out)  # type: ignore[no-any-return]  # modules are untyped calls


class ShuffleNetV1(nn.Module):
    """ShuffleNet with stages of 240, 480 and 960 channels after a 1×1 stem.

    The stem is tapped as ``"relu"``, the stages as ``"layer1"`` to ``"layer3"`` (after their last ReLU), the pooled
    features as ``"linear:input"``.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.

    Reference: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    CVPR 2018, arXiv:1707.01083.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3")

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU()
        self.layer1 = _stage(STEM, 240, units=4)
        self.layer2 = _stage(240, 480, units=8)
        self.layer3 = _stage(480, 960, units=4)
        self.linear = nn.Linear(960, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out: Tensor = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.linear(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


def _stage(in_channels: int, channels: int, units: int) -> nn.Sequential:
    first = ShuffleUnit(in_channels, channels, stride=2)
    return nn.Sequential(first, *(ShuffleUnit(channels, channels, stride=1) for _ in range(units - 1)))


register("shufflenet_v1", ShuffleNetV1, "ShuffleV1", "shufflev1", "cifar_ShuffleV1")
