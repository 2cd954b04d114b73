"""Callbacks beside the distillation: sample-wise fusion ratios, and monitors of what it does to the student."""

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
    "TeacherConfidence",
    "TrilateralGeometry",
    "WeightedSoftLabel",
    "geometry_features",
    "hold_out",
]
