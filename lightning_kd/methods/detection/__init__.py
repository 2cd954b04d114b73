"""Methods for object detectors."""

from lightning_kd.methods.detection.cross_kd import CrossKD, cross_kd_loss
from lightning_kd.methods.detection.dkd_det import DKDDet
from lightning_kd.methods.detection.fgd import FGD, fgd_loss
from lightning_kd.methods.detection.fgfi import FGFI, fgfi_loss
from lightning_kd.methods.detection.fitnet_neck import FitNetNeck
from lightning_kd.methods.detection.frs import FRS, frs_loss
from lightning_kd.methods.detection.ld import LD, ld_loss
from lightning_kd.methods.detection.mgd import MGD, mgd_loss
from lightning_kd.methods.detection.nd_det import NDDet
from lightning_kd.methods.detection.review_kd_det import ReviewKDDet

__all__ = [
    "FGD",
    "FGFI",
    "FRS",
    "LD",
    "MGD",
    "CrossKD",
    "DKDDet",
    "FitNetNeck",
    "NDDet",
    "ReviewKDDet",
    "cross_kd_loss",
    "fgd_loss",
    "fgfi_loss",
    "frs_loss",
    "ld_loss",
    "mgd_loss",
]
