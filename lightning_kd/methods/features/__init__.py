"""Methods that compare intermediate features."""

from lightning_kd.methods.features.ab import AB, activation_boundary_loss
from lightning_kd.methods.features.attention_transfer import AttentionTransfer, attention_transfer_loss
from lightning_kd.methods.features.cwd import CWD, cwd_loss
from lightning_kd.methods.features.factor_transfer import FactorTransfer, factor_transfer_loss
from lightning_kd.methods.features.fitnet import FitNet, hint_loss
from lightning_kd.methods.features.fsp import FSP, fsp_loss
from lightning_kd.methods.features.ickd import ICKD, ickd_loss
from lightning_kd.methods.features.kd_svd import KDSVD, kd_svd_loss
from lightning_kd.methods.features.kta import KTA, affinity_loss
from lightning_kd.methods.features.nd import ND, nd_loss
from lightning_kd.methods.features.nst import NST, nst_loss
from lightning_kd.methods.features.ofd import OFD, ofd_loss
from lightning_kd.methods.features.pad import PADL2, pad_l2_loss
from lightning_kd.methods.features.pkd import PKD, pkd_loss
from lightning_kd.methods.features.review_kd import ReviewKD, hcl_loss
from lightning_kd.methods.features.sem_ckd import SemCKD, semantic_calibration_loss
from lightning_kd.methods.features.sim_kd import SimKD, SimKDStudent
from lightning_kd.methods.features.srrl import SRRL, softmax_regression_loss
from lightning_kd.methods.features.vid import VID, vid_loss

__all__ = [
    "AB",
    "CWD",
    "FSP",
    "ICKD",
    "KDSVD",
    "KTA",
    "ND",
    "NST",
    "OFD",
    "PADL2",
    "PKD",
    "SRRL",
    "VID",
    "AttentionTransfer",
    "FactorTransfer",
    "FitNet",
    "ReviewKD",
    "SemCKD",
    "SimKD",
    "SimKDStudent",
    "activation_boundary_loss",
    "affinity_loss",
    "attention_transfer_loss",
    "cwd_loss",
    "factor_transfer_loss",
    "fsp_loss",
    "hcl_loss",
    "hint_loss",
    "ickd_loss",
    "kd_svd_loss",
    "nd_loss",
    "nst_loss",
    "ofd_loss",
    "pad_l2_loss",
    "pkd_loss",
    "semantic_calibration_loss",
    "softmax_regression_loss",
    "vid_loss",
]
