"""Methods that train the teacher along with the student."""

from lightning_kd.methods.online.base import OnlineMethod
from lightning_kd.methods.online.bdkd import BDKD, balanced_divergence_loss
from lightning_kd.methods.online.dml import DML, mutual_learning_loss
from lightning_kd.methods.online.ensembles import (
    general_ensemble,
    linear_ensemble,
    min_logit_ensemble,
    naive_ensemble,
)
from lightning_kd.methods.online.kdcl import KDCL
from lightning_kd.methods.online.switokd import SwitOKD, expert_mode, gap_statistics

__all__ = [
    "BDKD",
    "DML",
    "KDCL",
    "OnlineMethod",
    "SwitOKD",
    "balanced_divergence_loss",
    "expert_mode",
    "gap_statistics",
    "general_ensemble",
    "linear_ensemble",
    "min_logit_ensemble",
    "mutual_learning_loss",
    "naive_ensemble",
]
