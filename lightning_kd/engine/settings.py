"""What the user asked for; the same for both doors."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_kd.engine.exchange import LogitsOf
from lightning_kd.engine.target import Target
from lightning_kd.methods.base import Weight


@dataclass(frozen=True)
class Settings:
    """Weights, and where things are.

    Attributes:
        task_weight: factor of the student's own loss.
        network: dotted name of the student's network.
        target: where the labels are in the batch.
        logits: from a network's output to its logits.
    """

    task_weight: Weight = 1.0
    network: str | None = None
    target: Target | None = None
    logits: LogitsOf | None = None
