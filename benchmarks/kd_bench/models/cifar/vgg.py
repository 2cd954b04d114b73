"""VGG networks with batch norm and a single classifier layer: vgg8, vgg11, vgg13, vgg16 and vgg19."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from kd_bench.models.cifar._init import init_classifier, init_convolutions
from kd_bench.models.registry import register

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five blocks of 3×3 convolutions, the first four followed by max-pooling as far as the image's size allows.

    The blocks are tapped as ``"relu0"`` to ``"relu4"`` (after their last ReLU, before pooling) and as ``"block0"`` to
    ``"block4"`` before that ReLU; the pooled features are ``"classifier:input"``. The distillation stages leave
    ``"relu0"`` out, which stands where other networks have their stem.

    Args:
        num_classes: width of the logits.
        in_channels: channels of the images.
        convolutions: how many each block has.

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    arXiv:1409.1556.
    """

    distillation_stages: ClassVar[tuple[str, ...]] = ("relu1", "relu2", "relu3", "relu4")

    def __init__(self, num_classes: int, in_channels: int = 3, *, convolutions: Sequence[int]) -> None:
        super().__init__()
        inputs = (in_channels, *WIDTHS)
        blocks = [_block(*shape) for shape in zip(inputs[:-1], WIDTHS, convolutions, strict=True)]
        self.block0, self.block1, self.block2, self.block3, self.block4 = blocks
        # A ReLU of its own for each block: the output of the module is the feature to tap.
        self.relu0, self.relu1, self.relu2, self.relu3, self.relu4 = (nn.ReLU() for _ in blocks)
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        init_convolutions(self)
        init_classifier(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_channels, H, W)`` → logits ``(B, num_classes)``."""
        out = self.pool(self.relu0(self.block0(x)))
        out = self.pool(self.relu1(self.block1(out)))
        out = self.pool(self.relu2(self.block2(out)))
        out = self.relu3(self.block3(out))
        if x.shape[2] == 64:  # images of 32×32 have 4×4 left, and keep it
            out = self.pool(out)
        out = self.relu4(self.block4(out))
        return self.classifier(out.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # modules are untyped calls


def _block(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
    """Convolutions with batch norm, and ReLU between them."""
    layers: list[nn.Module] = []
    for index in range(convolutions):
        if index:
            layers.append(nn.ReLU())
        layers += [nn.Conv2d(channels if index else in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
    return nn.Sequential(*layers)


for _name, _convolutions in {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}.items():
    register(_name, partial(VGG, convolutions=_convolutions), f"cifar_{_name}")
