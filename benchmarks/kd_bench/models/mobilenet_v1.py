"""MobileNetV1 for ImageNet, the student of the ImageNet protocol's second pair."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from kd_bench.models.registry import register


class MobileNetV1(nn.Module):
    """Thirteen depthwise-separable convolutions after a stem of stride 2.

    The last layer of each resolution is tapped as ``"model.3"``, ``"model.5"``, ``"model.11"`` and ``"model.13"``
    (after ReLU; ``"model.3.4"`` and so on before it), the pooled features as ``"fc:input"``.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.

    Reference: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    2017, arXiv:1704.04861.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("model.3", "model.5", "model.11", "model.13")
    layers: ClassVar[tuple[tuple[int, int], ...]] = (
        # channels, stride
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    )

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        previous = 32
        stem = nn.Conv2d(in_channels, previous, 3, 2, padding=1, bias=False)
        self.model = nn.Sequential(nn.Sequential(stem, nn.BatchNorm2d(previous), nn.ReLU()))
        for channels, stride in self.layers:
            self.model.append(_separable(previous, channels, stride))
            previous = channels
        self.fc = nn.Linear(previous, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out: Tensor = self.model(x)
        return self.fc(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


def _separable(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """A 3×3 convolution of each channel, then a 1×1 convolution across them."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


register("mobilenet_v1", MobileNetV1, "MobileNetV1", "imagenet_MobileNetV1")
