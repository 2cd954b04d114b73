"""Wide residual networks: wrn_16_1, wrn_16_2, wrn_40_1 and wrn_40_2."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from kd_bench.models.cifar._init import init_convolutions
from kd_bench.models.registry import register


class PreActivationBlock(nn.Module):
    """Twice batch norm, ReLU and a 3×3 convolution, with a residual connection.

    Where the number of channels changes, the connection is a 1×1 convolution of the activated input.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None  # the public checkpoints spell it so
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / stride, W / stride)``, before any activation."""
        activated = self.relu1(self.bn1(x))
        out: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        return out + (x if self.convShortcut is None else self.convShortcut(activated))


class Stage(nn.Module):
    """Blocks of one width."""

    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(in_channels, channels, stride)
        self.layer = nn.Sequential(first, *(PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` → ``(B, C, H / stride, W / stride)``."""
        return self.layer(x)  # type: ignore[no-any-return]  # modules are untyped calls


class WideResNet(nn.Module):
    """Wide residual network of depth ``6n + 4``.

    The stem is tapped as ``"conv1"``, the stages as ``"block1"`` to ``"block3"`` (the raw sum, before batch norm and
    ReLU), the pooled features as ``"fc:input"``. The stages after their batch norm, before its ReLU, are
    ``"block2.layer.0.bn1"``, ``"block3.layer.0.bn1"`` and ``"bn1"``, where the next layer computes them: a network
    that calls those a second time to expose them would update their running statistics twice a step.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.
        depth: number of layers.
        widen: factor of the widths 16, 32 and 64.

    Raises:
        ValueError: if the depth is not ``6n + 4``.

    Reference: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv:1605.07146.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("block1", "block2", "block3")

    def __init__(self, num_classes: int, in_channels: int = 3, *, depth: int, widen: int) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 4, 6)
        if remainder or blocks < 1:
            raise ValueError(f"the depth must be 6n + 4 (10, 16, 22, ...), got {depth}")
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, 16 * widen, blocks, stride=1)
        self.block2 = Stage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = Stage(32 * widen, 64 * widen, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64 * widen, num_classes)
        init_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out: Tensor = self.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        return self.fc(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


for _depth in (16, 40):
    for _widen in (1, 2):
        register(
            f"wrn_{_depth}_{_widen}",
            partial(WideResNet, depth=_depth, widen=_widen),
            f"wrn-{_depth}-{_widen}",
            f"cifar_wrn_{_depth}_{_widen}",
        )
