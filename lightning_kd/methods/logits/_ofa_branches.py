"""The branches of OFA-KD, which turn a stage of any architecture into logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters, pooled

_LARGEST_GRID = 7
_HEADS = 4


def make_branch(stage: Tensor, below: int, width: int, num_classes: int, *, channels_last: bool) -> nn.Module:
    """A branch for one stage of the student.

    Args:
        stage: the stage's feature: a map ``(B, C, H, W)``, tokens ``(B, N, D)`` or an embedding ``(B, D)``.
        below: how many stages are deeper than this one.
        width: width of the branch's last feature.
        num_classes: classes to predict.
        channels_last: whether a map came from a token network (Swin) and was permuted.
    """
    if stage.dim() == 2:
        return ConvBranch([], stage.shape[1], num_classes)
    if stage.dim() == 3:
        return TokenBranch(stage.shape[-1], 0, max(below, 1), num_classes, has_class_token=_has_class_token(stage))
    if channels_last:
        return TokenBranch(stage.shape[1], _merges(stage), max(below, 1), num_classes, has_class_token=False)
    return ConvBranch(_convolutions(stage.shape[1], below, width), width, num_classes)


class ConvBranch(nn.Module):
    """Convolutions, average pooling and a linear classifier.

    Args:
        layers: what comes before the pooling.
        width: channels of the last of them.
        num_classes: classes to predict.
    """

    def __init__(self, layers: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, num_classes)
        self.apply(_initialize)

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` (or ``(B, C)``) to logits."""
        logits: Tensor = self.classifier(pooled(self.layers(like_parameters(feature, self))))
        return logits


class TokenBranch(nn.Module):
    """Patch merging, transformer blocks, and a linear classifier on the class token or the mean.

    Args:
        width: width of the tokens.
        merges: how often 2×2 neighbours are merged, which doubles the width.
        blocks: number of transformer blocks.
        num_classes: classes to predict.
        has_class_token: whether the first token is the class token.
    """

    def __init__(self, width: int, merges: int, blocks: int, num_classes: int, *, has_class_token: bool) -> None:
        super().__init__()
        self.merges = nn.ModuleList(PatchMerging(width * 2**step) for step in range(merges))
        width = width * 2**merges
        heads = math.gcd(width, _HEADS)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(blocks)
            )
        )
        self.classifier = nn.Linear(width, num_classes)
        self.has_class_token = has_class_token
        self.apply(_initialize)

    def forward(self, feature: Tensor) -> Tensor:
        """Map tokens ``(B, N, D)`` or a map ``(B, D, H, W)`` to logits."""
        feature = like_parameters(feature, self)
        if feature.dim() == 4:
            grid = feature.permute(0, 2, 3, 1)
            for merge in self.merges:
                grid = merge(grid)
            feature = grid.flatten(1, 2)
        tokens = self.blocks(feature)
        logits: Tensor = self.classifier(tokens[:, 0] if self.has_class_token else tokens.mean(1))
        return logits


class PatchMerging(nn.Module):
    """Concatenate 2×2 neighbours, normalise and project to twice the width, then GELU.

    Args:
        width: channels of the grid.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.activation = nn.GELU()

    def forward(self, grid: Tensor) -> Tensor:
        """Map ``(B, H, W, D)`` to ``(B, H/2, W/2, 2D)``; odd sizes are padded with zeros."""
        grid = nn.functional.pad(grid, (0, 0, 0, grid.shape[2] % 2, 0, grid.shape[1] % 2))
        parts = [grid[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.activation(self.reduction(self.norm(torch.cat(parts, dim=-1))))
        return merged


def _convolutions(channels: int, below: int, width: int) -> list[nn.Module]:
    """Separable convolutions of stride 2, one for every deeper stage; channels double, the last has ``width``."""
    if below == 0:
        return [nn.Conv2d(channels, width, 1)]
    layers: list[nn.Module] = []
    for step in range(below):
        wider = width if step == below - 1 else 2 * channels
        layers += [*_separable(channels, channels, stride=2), *_separable(channels, wider, stride=1)]
        channels = wider
    return layers


def _separable(channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.Conv2d(channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def _merges(stage: Tensor) -> int:
    """How many 2×2 merges bring the grid down to at most 7×7."""
    return max(0, math.ceil(math.log2(max(stage.shape[2:]) / _LARGEST_GRID)))


def _has_class_token(tokens: Tensor) -> bool:
    """Whether the tokens form a square grid only without the first one."""
    count = tokens.shape[1]
    return math.isqrt(count) ** 2 != count and math.isqrt(count - 1) ** 2 == count - 1


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
