"""Channel shuffle, which lets the groups of a grouped convolution exchange information."""

from __future__ import annotations

from torch import Tensor


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups: with two groups ``a b c d`` becomes ``a c b d``.

    Args:
        x: maps ``(B, C, H, W)``.
        groups: number of groups; divides ``C``.

    Reference: Zhang et al., "ShuffleNet", CVPR 2018, arXiv:1707.01083.
    """
    batch, channels, height, width = x.shape
    split = x.reshape(batch, groups, channels // groups, height, width)
    return split.transpose(1, 2).reshape(batch, channels, height, width)
