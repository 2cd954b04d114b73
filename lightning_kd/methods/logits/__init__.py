"""Methods that compare what the networks predict."""

from lightning_kd.methods.logits.cat_kd import CATKD, class_attention_transfer_loss
from lightning_kd.methods.logits.ctkd import CTKD, learned_temperature_kd_loss
from lightning_kd.methods.logits.dist import DIST, dist_loss
from lightning_kd.methods.logits.dist_plus import DISTPlus, feature_relation_loss
from lightning_kd.methods.logits.dkd import DKD, dkd_loss
from lightning_kd.methods.logits.gjsd import GJSD, generalized_jsd_loss
from lightning_kd.methods.logits.kd import KD, kd_loss
from lightning_kd.methods.logits.label_smoothing import LabelSmoothing, label_smoothing_loss
from lightning_kd.methods.logits.lskd import LogitStandardization, logit_standardized_kd_loss
from lightning_kd.methods.logits.mlkd import MLKD, batch_correlation_loss, class_correlation_loss, mlkd_loss
from lightning_kd.methods.logits.nkd import NKD, nkd_loss
from lightning_kd.methods.logits.ofa import OFA, ofa_loss
from lightning_kd.methods.logits.pld import PLD, pld_loss
from lightning_kd.methods.logits.srd import SRD, srd_loss
from lightning_kd.methods.logits.tf_kd import TfKD, virtual_teacher_loss
from lightning_kd.methods.logits.topk_kd import TopKKD, topk_tail_kl_loss
from lightning_kd.methods.logits.uskd import USKD, uskd_loss
from lightning_kd.methods.logits.wsld import WSLD, wsld_loss
from lightning_kd.methods.logits.wttm import WTTM, ttm_loss

__all__ = [
    "CATKD",
    "CTKD",
    "DIST",
    "DKD",
    "GJSD",
    "KD",
    "MLKD",
    "NKD",
    "OFA",
    "PLD",
    "SRD",
    "USKD",
    "WSLD",
    "WTTM",
    "DISTPlus",
    "LabelSmoothing",
    "LogitStandardization",
    "TfKD",
    "TopKKD",
    "batch_correlation_loss",
    "class_attention_transfer_loss",
    "class_correlation_loss",
    "dist_loss",
    "dkd_loss",
    "feature_relation_loss",
    "generalized_jsd_loss",
    "kd_loss",
    "label_smoothing_loss",
    "learned_temperature_kd_loss",
    "logit_standardized_kd_loss",
    "mlkd_loss",
    "nkd_loss",
    "ofa_loss",
    "pld_loss",
    "srd_loss",
    "topk_tail_kl_loss",
    "ttm_loss",
    "uskd_loss",
    "virtual_teacher_loss",
    "wsld_loss",
]
