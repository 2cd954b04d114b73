"""Thin residual networks of three stages: resnet8 to resnet110, and the four times wider resnet8x4 and resnet32x4."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from kd_bench.models.cifar._init import init_convolutions
from kd_bench.models.registry import register


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a residual connection, which is a 1×1 convolution where the shapes differ.

    ``relu2`` makes the output, so ``"relu2:input"`` taps the block before its activation.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / stride, W / stride)``."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu2(out + identity)  # type: ignore[no-any-return]  # modules are untyped calls


class ResNet(nn.Module):
    """Residual network of depth ``6n + 2`` for small images.

    The stem is tapped as ``"relu"``, the stages as ``"layer1"`` to ``"layer3"`` (after their last ReLU), the pooled
    features as ``"fc:input"``.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.
        depth: number of layers.
        widths: channels of the stem and of the three stages.

    Raises:
        ValueError: if the depth is not ``6n + 2``.

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3")

    def __init__(
        self, num_classes: int, in_channels: int = 3, *, depth: int, widths: Sequence[int] = (16, 16, 32, 64)
    ) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise ValueError(f"the depth must be 6n + 2 (8, 14, 20, ...), got {depth}")
        stem, *stages = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = _stage(stem, stages[0], blocks, stride=1)
        self.layer2 = _stage(stages[0], stages[1], blocks, stride=2)
        self.layer3 = _stage(stages[1], stages[2], blocks, stride=2)
        self.fc = nn.Linear(stages[2], num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out: Tensor = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


for _depth in (8, 14, 20, 32, 44, 56, 110):
    register(f"resnet{_depth}", partial(ResNet, depth=_depth), f"cifar_resnet{_depth}")
for _depth in (8, 32):
    register(f"resnet{_depth}x4", partial(ResNet, depth=_depth, widths=(32, 64, 128, 256)), f"cifar_resnet{_depth}x4")
