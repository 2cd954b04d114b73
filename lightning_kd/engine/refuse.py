"""Situations in which a student would silently be trained wrongly, refused before they start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import lightning as L
from lightning.pytorch import callbacks

if TYPE_CHECKING:
    from lightning_kd.engine.engine import Engine

_AVERAGING = tuple(
    found
    for name in ("WeightAveraging", "StochasticWeightAveraging")
    if (found := getattr(callbacks, name, None)) is not None
)


def refuse_eval_mode(module: L.LightningModule) -> None:
    """Raise ``RuntimeError`` if the student would be trained in eval mode."""
    if not module.training:
        raise RuntimeError(
            f"{type(module).__name__} is in eval mode, as after load_from_checkpoint, and Lightning does not change "
            "that in fit: BatchNorm would not learn and dropout would be off. Call `.train()` on it before fit."
        )


def refuse_averaging_before(trainer: L.Trainer, engine: Engine) -> None:
    """Raise ``RuntimeError`` if a weight-averaging callback stands before ours.

    It has copied the module by then, without the methods' connectors.
    """
    for callback in cast(Any, trainer).callbacks:
        if getattr(callback, "engine", None) is engine:
            return
        if isinstance(callback, _AVERAGING):
            raise RuntimeError(
                f"{type(callback).__name__} stands before Distillation in the Trainer's callbacks, so it has copied "
                "the module without the methods' connectors and would average the wrong weights. Put Distillation "
                f"first: callbacks=[Distillation(...), {type(callback).__name__}(...)]."
            )
