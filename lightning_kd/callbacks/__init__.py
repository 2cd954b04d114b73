"""Callbacks beside the distillation: sample-wise fusion ratios, a cache of the teacher, and monitors of the student."""

from lightning_kd.callbacks.calibration import CalibrationMonitor
from lightning_kd.callbacks.fidelity import FidelityMonitor
from lightning_kd.callbacks.fusion import (
    Fixed,
    FusionFit,
    FusionRatio,
    FusionStep,
    FusionStrategy,
    GeometryFeatures,
    LinearAnneal,
    RandomWeights,
    TeacherConfidence,
    TrilateralGeometry,
    WeightedSoftLabel,
    geometry_features,
    hold_out,
)
from lightning_kd.callbacks.loss_balance import LossBalance
from lightning_kd.callbacks.teacher_cache import TeacherCache

__all__ = [
    "CalibrationMonitor",
    "FidelityMonitor",
    "Fixed",
    "FusionFit",
    "FusionRatio",
    "FusionStep",
    "FusionStrategy",
    "GeometryFeatures",
    "LinearAnneal",
    "LossBalance",
    "RandomWeights",
    "TeacherCache",
    "TeacherConfidence",
    "TrilateralGeometry",
    "WeightedSoftLabel",
    "geometry_features",
    "hold_out",
]
