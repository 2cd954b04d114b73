"""Callbacks beside the distillation: monitors of what it does to the student."""

from lightning_kd.callbacks.calibration import CalibrationMonitor
from lightning_kd.callbacks.fidelity import FidelityMonitor
from lightning_kd.callbacks.loss_balance import LossBalance

__all__ = [
    "CalibrationMonitor",
    "FidelityMonitor",
    "LossBalance",
]
