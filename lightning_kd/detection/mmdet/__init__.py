"""Detectors of MMDetection as students and teachers, on mmcv with or without compiled operators.

* ``load``: a detector from the name of a config; ``checkpoints``: its weights, without running what is in the file.
* ``network``: the call that is distilled; ``dense`` and ``regions`` are its heads, ``transform`` its images.
* ``detector``: a LightningModule around it; ``pipeline``: batches of mmdet's own pipelines.
* ``require`` and ``ops``: what must be installed, and what stands in for compiled operators.

Needs ``pip install "lightning-kd[mmdet]"``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lightning_kd.detection.mmdet.checkpoints import convert_checkpoint
from lightning_kd.detection.mmdet.load import load_config, load_model
from lightning_kd.detection.mmdet.network import MMDetectionNetwork

if TYPE_CHECKING:
    from lightning_kd.detection.mmdet.detector import MMDetector

__all__ = ["MMDetectionNetwork", "MMDetector", "convert_checkpoint", "load_config", "load_model"]


def __getattr__(name: str) -> Any:
    if name != "MMDetector":  # imported late: it needs torchvision
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.detector").MMDetector
