"""MobileNetV2 at half width, as the CIFAR-100 protocol uses it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from kd_bench.models.cifar._init import init_classifier, init_convolutions
from kd_bench.models.registry import register


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow again; residual where the shapes allow. The output has no activation."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.residual = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / stride, W / stride)``."""
        out: Tensor = self.conv(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """MobileNetV2 with half the channels, ReLU instead of ReLU6, no dropout, and 1,280 features in the end.

    The stem is tapped as ``"conv1"``, the last block of each resolution as ``"blocks.1"``, ``"blocks.2"``,
    ``"blocks.4"`` and ``"blocks.6"``, the pooled features as ``"classifier:input"``.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.
        width: factor of the channels.

    Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv:1801.04381.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("blocks.1", "blocks.2", "blocks.4", "blocks.6")
    stages: ClassVar[tuple[tuple[int, int, int, int], ...]] = (
        # expansion, channels, blocks, stride
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, num_classes: int, in_channels: int = 3, width: float = 0.5) -> None:
        super().__init__()
        previous = int(32 * width)
        self.conv1 = _conv_bn_relu(in_channels, previous, kernel=3, stride=2)
        self.blocks = nn.Sequential()
        for expansion, full_width, repeats, stride in self.stages:
            channels = int(full_width * width)
            first = InvertedResidual(previous, channels, stride, expansion)
            rest = (InvertedResidual(channels, channels, 1, expansion) for _ in range(repeats - 1))
            self.blocks.append(nn.Sequential(first, *rest))
            previous = channels
        self.conv2 = _conv_bn_relu(previous, 1280, kernel=1, stride=1)
        linear = nn.Linear(1280, num_classes)
        self.classifier = nn.Sequential(linear)
        init_convolutions(self)
        init_classifier(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out: Tensor = self.conv2(self.blocks(self.conv1(x)))
        return self.classifier(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


def _conv_bn_relu(in_channels: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


register("mobilenet_v2_half", MobileNetV2, "MobileNetV2", "mobile_half", "mobilenetv2", "cifar_mobile_half")
