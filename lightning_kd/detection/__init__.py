"""Object detection: one call for detectors of torchvision and of mmdet, and LightningModules around them.

* ``output``: what a detection network returns.
* ``network``: the call that is distilled, and the names of its taps.
* ``truth``: the ground truth of a step, for methods that need boxes.
* ``detector``: a LightningModule around a detector of torchvision; ``torchvision_models`` makes one by name.

The methods are in :mod:`lightning_kd.methods.detection`. Nothing here is imported with ``lightning_kd`` itself, and
torchvision only when :class:`Detector`, :func:`create_detector` or :func:`wrap_detector` is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lightning_kd.detection.network import DetectionNetwork, Targets, taps
from lightning_kd.detection.output import BACKGROUND, IGNORED, Dense, DetectionOutput, Regions
from lightning_kd.detection.truth import GroundTruth, ground_truth

if TYPE_CHECKING:
    from lightning_kd.detection.detector import Detector
    from lightning_kd.detection.torchvision_models import create_detector, wrap_detector

_LATE = {"Detector": "detector", "create_detector": "torchvision_models", "wrap_detector": "torchvision_models"}

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "Dense",
    "DetectionNetwork",
    "DetectionOutput",
    "Detector",
    "GroundTruth",
    "Regions",
    "Targets",
    "create_detector",
    "ground_truth",
    "taps",
    "wrap_detector",
]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
