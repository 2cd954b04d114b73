"""The four-stage residual networks of ImageNet with a stem for small images: ResNet18 and ResNet50 of CIFAR-100."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from kd_bench.models.cifar._init import init_convolutions
from kd_bench.models.registry import register


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; ``"relu2:input"`` taps the block before its activation."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / stride, W / stride)``."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + self.shortcut(x))  # type: ignore[no-any-return]  # modules are untyped calls


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1; ``"relu3:input"`` taps the block before its activation."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(channels, self.expansion * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * channels)
        self.shortcut = _shortcut(in_channels, self.expansion * channels, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, 4 C, H / stride, W / stride)``."""
        out = self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
        out = self.bn3(self.conv3(out))
        return self.relu3(out + self.shortcut(x))  # type: ignore[no-any-return]  # modules are untyped calls


class CifarResNet(nn.Module):
    """Residual network with a 3×3 stem of stride 1 and no max-pooling.

    The stem is tapped as ``"relu"``, the stages as ``"layer1"`` to ``"layer4"`` (after their last ReLU), the pooled
    features as ``"linear:input"``.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.
        block: kind of block.
        blocks: how many each stage has.

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3", "layer4")

    def __init__(
        self, num_classes: int, in_channels: int = 3, *, block: type[BasicBlock | Bottleneck], blocks: Sequence[int]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(block, 64, 64, blocks[0], stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, blocks[1], stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, blocks[2], stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, blocks[3], stride=2)
        self.linear = nn.Linear(512 * block.expansion, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        out = self.layer4(self.layer3(out))
        return self.linear(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def _stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, channels: int, blocks: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(block.expansion * channels, channels, 1) for _ in range(blocks - 1)))


register("cifar_resnet18", partial(CifarResNet, block=BasicBlock, blocks=(2, 2, 2, 2)), "ResNet18", "cifar_ResNet18")
register("cifar_resnet50", partial(CifarResNet, block=Bottleneck, blocks=(3, 4, 6, 3)), "ResNet50", "cifar_ResNet50")
