"""Sample-wise ratios between task and distillation loss, and the strategies that choose them."""

from lightning_kd.callbacks.fusion.callback import FusionRatio
from lightning_kd.callbacks.fusion.features import GeometryFeatures, geometry_features
from lightning_kd.callbacks.fusion.fixed import Fixed
from lightning_kd.callbacks.fusion.hold_out import hold_out
from lightning_kd.callbacks.fusion.linear_anneal import LinearAnneal
from lightning_kd.callbacks.fusion.random_weights import RandomWeights
from lightning_kd.callbacks.fusion.step import FusionFit, FusionStep
from lightning_kd.callbacks.fusion.strategy import FusionStrategy
from lightning_kd.callbacks.fusion.teacher_confidence import TeacherConfidence
from lightning_kd.callbacks.fusion.trilateral_geometry import TrilateralGeometry
from lightning_kd.callbacks.fusion.weighted_soft_label import WeightedSoftLabel

__all__ = [
    "Fixed",
    "FusionFit",
    "FusionRatio",
    "FusionStep",
    "FusionStrategy",
    "GeometryFeatures",
    "LinearAnneal",
    "RandomWeights",
    "TeacherConfidence",
    "TrilateralGeometry",
    "WeightedSoftLabel",
    "geometry_features",
    "hold_out",
]
