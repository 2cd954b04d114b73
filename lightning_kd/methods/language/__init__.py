"""Methods that compare next-token distributions, ``(B, T, V)``, over the valid tokens."""

from lightning_kd.methods.language.adaptive_kl import AdaptiveKL, adaptive_kl_loss
from lightning_kd.methods.language.forward_kl import ForwardKL, forward_kl_loss
from lightning_kd.methods.language.fused_linear import FusedLinearKL, fused_linear_divergence
from lightning_kd.methods.language.reverse_kl import ReverseKL, reverse_kl_loss
from lightning_kd.methods.language.skew_kl import (
    SkewForwardKL,
    SkewReverseKL,
    skew_forward_kl_loss,
    skew_reverse_kl_loss,
)
from lightning_kd.methods.language.taid import TAID, taid_loss
from lightning_kd.methods.language.topk_decoupled_kl import TopKDecoupledKL, topk_decoupled_kl_loss
from lightning_kd.methods.language.total_variation import TotalVariation, total_variation_loss

__all__ = [
    "TAID",
    "AdaptiveKL",
    "ForwardKL",
    "FusedLinearKL",
    "ReverseKL",
    "SkewForwardKL",
    "SkewReverseKL",
    "TopKDecoupledKL",
    "TotalVariation",
    "adaptive_kl_loss",
    "forward_kl_loss",
    "fused_linear_divergence",
    "reverse_kl_loss",
    "skew_forward_kl_loss",
    "skew_reverse_kl_loss",
    "taid_loss",
    "topk_decoupled_kl_loss",
    "total_variation_loss",
]
