"""Small networks for 28×28 images: a residual one to teach and a plain one to learn.

They are those of :mod:`kd_bench.models.mini` with a stem that halves the resolution, so that a CPU can train them:
``layer1`` is 14×14, ``layer2`` 7×7 and ``layer3`` 4×4.
"""

from __future__ import annotations

from kd_bench.models.mini import BasicBlock, MiniNet, PlainBlock
from kd_bench.models.registry import model


@model
def fashion_resnet14(num_classes: int, in_channels: int = 1) -> MiniNet:
    """Residual network, 16-32-64 channels, two blocks a stage."""
    network = MiniNet(BasicBlock, (16, 32, 64), 2, True, num_classes, in_channels)
    network.stem = PlainBlock(in_channels, 16, 2)
    return network


@model
def fashion_cnn5(num_classes: int, in_channels: int = 1) -> MiniNet:
    """Four convolutions with 12-12-24-48 channels."""
    network = MiniNet(PlainBlock, (12, 24, 48), 1, True, num_classes, in_channels)
    network.stem = PlainBlock(in_channels, 12, 2)
    return network
