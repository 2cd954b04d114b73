"""Attention-based fusion of a student stage with what the deeper stages passed up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters
from lightning_kd.connectors.stack import conv_norm


class AttentionFusion(nn.Module):
    """The ABF module of ReviewKD.

    The stage goes through a 1×1 convolution to a common width, is mixed with the residual of the deeper stage by two
    sigmoid attention maps, resized to the teacher's map (nearest), and sent through a 3×3 convolution to the teacher's
    channels.

    Args:
        student_channels: channels of the student's stage.
        common_channels: width shared by all stages.
        teacher_channels: channels of the teacher's stage.
        fuses: whether there is a deeper stage to fuse with.

    Reference: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv:2104.09044.
    """

    def __init__(self, student_channels: int, common_channels: int, teacher_channels: int, fuses: bool) -> None:
        super().__init__()
        self.reduce = conv_norm(student_channels, common_channels)
        self.expand = conv_norm(common_channels, teacher_channels, kernel=3)
        for stack in (self.reduce, self.expand):
            convolution = stack[0]
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.attention = nn.Conv2d(2 * common_channels, 2, 1) if fuses else None

    def forward(self, feature: Tensor, residual: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Fuse and project one stage.

        Args:
            feature: the student's stage, ``(B, C_s, H, W)``.
            residual: second result of the deeper stage's fusion, or ``None`` for the deepest.
            size: height and width of the teacher's map.

        Returns:
            The projected stage ``(B, C_t, *size)`` and the residual for the next shallower stage.
        """
        fused = self.reduce(feature)
        if self.attention is not None and residual is not None:
            residual = F.interpolate(residual, (feature.shape[2], feature.shape[3]), mode="nearest")
            both = like_parameters(torch.cat([fused, residual], 1), self.attention)
            gates = self.attention(both).sigmoid()
            fused = fused * gates[:, :1] + residual * gates[:, 1:]
        if tuple(fused.shape[2:]) != size:
            fused = F.interpolate(fused, size, mode="nearest")
        return self.expand(fused), fused
