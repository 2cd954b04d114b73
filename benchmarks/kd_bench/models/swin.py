"""The small Swin transformer that the heterogeneous CIFAR-100 protocol distils into; timm brings the parts."""

from __future__ import annotations

from torch import nn

from kd_bench.models.external import timm_builder
from kd_bench.models.registry import model


@model
def swin_pico(num_classes: int, in_channels: int = 3) -> nn.Module:
    """Swin-P of Hao et al., "One-for-All", NeurIPS 2023: 48 channels, two blocks a stage, images of 224 pixels."""
    network: nn.Module = timm_builder("swin_tiny_patch4_window7_224")(
        num_classes=num_classes, in_chans=in_channels, embed_dim=48, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16)
    )
    return network
