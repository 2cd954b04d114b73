"""The digits, with a network whose training does not depend on how a batch is divided; for processes to import."""

from __future__ import annotations

from kd_bench.data.digits import Digits
from kd_bench.models.registry import register
from torch import nn


def norm_free(num_classes: int, in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )


register("norm_free", norm_free)


class PlainDigits(Digits):
    """The digits themselves."""
