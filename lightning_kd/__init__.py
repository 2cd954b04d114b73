"""Knowledge distillation for any LightningModule.

Two doors lead to one engine: :class:`DistillationModule` wraps a student, :class:`Distillation` is a callback
beside it.
Methods live in :mod:`lightning_kd.methods`, their losses as pure functions in :mod:`lightning_kd.functional`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_kd._version import __version__

if TYPE_CHECKING:
    from lightning_kd.distillation import Distillation
    from lightning_kd.engine.exchange import Exchange, Progress, View
    from lightning_kd.engine.teacher import Teacher
    from lightning_kd.methods.base import DistillationMethod
    from lightning_kd.module import DistillationModule
    from lightning_kd.task import Classification

# Imported on first use: the command line lives in this package and must not wait for PyTorch to say --help.
_HOME = {
    "Classification": "task",
    "Distillation": "distillation",
    "DistillationMethod": "methods.base",
    "DistillationModule": "module",
    "Exchange": "engine.exchange",
    "Progress": "engine.exchange",
    "Teacher": "engine.teacher",
    "View": "engine.exchange",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
