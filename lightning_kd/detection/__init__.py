"""Object detection: one call for detectors of torchvision and of mmdet, and LightningModules around them.

* ``output``: what a detection network returns.
* ``network``: the call that is distilled, and the names of its taps.
* ``truth``: the ground truth of a step, for methods that need boxes.

The methods are in :mod:`lightning_kd.methods.detection`. Nothing here is imported with ``lightning_kd`` itself.
"""

from lightning_kd.detection.network import DetectionNetwork, Targets, taps
from lightning_kd.detection.output import BACKGROUND, IGNORED, Dense, DetectionOutput, Regions
from lightning_kd.detection.truth import GroundTruth, ground_truth

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "Dense",
    "DetectionNetwork",
    "DetectionOutput",
    "GroundTruth",
    "Regions",
    "Targets",
    "ground_truth",
    "taps",
]
