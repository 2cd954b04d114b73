"""Small networks for 8×8 images: a residual one to teach and a plain one to learn.

Both halve the resolution between the stages ``layer1`` (8×8), ``layer2`` (4×4) and ``layer3`` (2×2), and classify the
average of the last map with ``fc``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd_bench.models.registry import model


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a residual connection."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / stride, W / stride)``."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class PlainBlock(nn.Sequential):
    """One 3×3 convolution."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )


class MiniNet(nn.Module):
    """Stem, three stages, average pooling, classifier.

    Args:
        block: constructor of a block from ``(in_channels, channels, stride)``.
        widths: channels of the three stages.
        depth: blocks in a stage.
        stem: whether a convolution precedes the stages.
        num_classes: width of the logits.
        in_channels: channels of the images.
    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        widths: Sequence[int],
        depth: int,
        stem: bool,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.stem: nn.Module = PlainBlock(in_channels, widths[0], 1) if stem else nn.Identity()
        previous = widths[0] if stem else in_channels
        stages = []
        for stage, width in enumerate(widths):
            strides = [1 if stage == 0 else 2] + [1] * (depth - 1)
            inputs = [previous] + [width] * (depth - 1)
            blocks = [block(channels, width, stride) for channels, stride in zip(inputs, strides, strict=True)]
            stages.append(nn.Sequential(*blocks))
            previous = width
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(previous, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out: Tensor = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


@model
def mini_resnet14(num_classes: int, in_channels: int = 1) -> MiniNet:
    """Residual network, 16-32-64 channels, two blocks a stage."""
    return MiniNet(BasicBlock, (16, 32, 64), 2, True, num_classes, in_channels)


@model
def mini_cnn4(num_classes: int, in_channels: int = 1) -> MiniNet:
    """Three convolutions with 8-16-32 channels."""
    return MiniNet(PlainBlock, (8, 16, 32), 1, False, num_classes, in_channels)
