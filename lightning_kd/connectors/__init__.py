"""Trainable glue between a student's and a teacher's features, and the shape handling around it."""

from lightning_kd.connectors.attention_fusion import AttentionFusion
from lightning_kd.connectors.autoencoder import Autoencoder, factor_encoder
from lightning_kd.connectors.conv_regressor import ConvRegressor
from lightning_kd.connectors.linear_projector import LinearProjector
from lightning_kd.connectors.maps import pool_to_smaller, pooled, resize_map, to_map
from lightning_kd.connectors.stack import Connector, bottleneck, channel_adapter, conv_norm

__all__ = [
    "AttentionFusion",
    "Autoencoder",
    "Connector",
    "ConvRegressor",
    "LinearProjector",
    "bottleneck",
    "channel_adapter",
    "conv_norm",
    "factor_encoder",
    "pool_to_smaller",
    "pooled",
    "resize_map",
    "to_map",
]
