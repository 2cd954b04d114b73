"""Knowledge distillation for any LightningModule.

Two doors lead to one engine: :class:`DistillationModule` wraps a student, :class:`Distillation` is a callback
beside it.
Methods live in :mod:`lightning_kd.methods`, their losses as pure functions in :mod:`lightning_kd.functional`.
"""

from lightning_kd._version import __version__
from lightning_kd.distillation import Distillation
from lightning_kd.engine.exchange import Exchange, Progress, View
from lightning_kd.engine.teacher import Teacher
from lightning_kd.methods.base import DistillationMethod
from lightning_kd.module import DistillationModule
from lightning_kd.task import Classification

__all__ = [
    "Classification",
    "Distillation",
    "DistillationMethod",
    "DistillationModule",
    "Exchange",
    "Progress",
    "Teacher",
    "View",
    "__version__",
]
