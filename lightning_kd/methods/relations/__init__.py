"""Methods that compare relations between samples, or contrast them."""

from lightning_kd.methods.relations.cc import CC, correlation_congruence_loss
from lightning_kd.methods.relations.crd import CRD, noise_contrastive_loss
from lightning_kd.methods.relations.mi_alpha import MIAlpha, mi_alpha_loss
from lightning_kd.methods.relations.pkt import PKT, pkt_loss
from lightning_kd.methods.relations.rkd import RKD, rkd_loss
from lightning_kd.methods.relations.rsd import RSD, rsd_loss
from lightning_kd.methods.relations.sp import SP, similarity_preserving_loss
from lightning_kd.methods.relations.sskd import SSKD, filtered_divergence, rotation_similarities

__all__ = [
    "CC",
    "CRD",
    "PKT",
    "RKD",
    "RSD",
    "SP",
    "SSKD",
    "MIAlpha",
    "correlation_congruence_loss",
    "filtered_divergence",
    "mi_alpha_loss",
    "noise_contrastive_loss",
    "pkt_loss",
    "rkd_loss",
    "rotation_similarities",
    "rsd_loss",
    "similarity_preserving_loss",
]
