"""Peers: teachers that train along with the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_kd.engine.optimizers import optimizers_in

_Scheduler = tuple[Any, str]


def brings_optimizer(peer: nn.Module) -> bool:
    """Whether a peer is a LightningModule with an optimizer of its own."""
    return isinstance(peer, L.LightningModule) and is_overridden("configure_optimizers", peer, L.LightningModule)


class PeerOptimizers:
    """Drives the optimizers and schedulers that peers bring, in step with the student's.

    They step where the student's optimizer steps, on the gradients of the same backward pass, before these are clipped.

    Args:
        peers: the peers; those that bring no optimizer are left to the student's.

    Raises:
        ValueError: for a scheduler that cannot be driven: one that waits for a metric, or with a ``frequency``.
    """

    def __init__(self, peers: Sequence[nn.Module]) -> None:
        self.optimizers: list[Optimizer] = []
        self.schedulers: list[_Scheduler] = []
        for peer in peers:
            if brings_optimizer(peer):
                assert isinstance(peer, L.LightningModule)
                configured = peer.configure_optimizers()
                self.optimizers.extend(optimizers_in(configured))
                self.schedulers.extend(_schedulers_in(configured))

    def check(self, trainer: L.Trainer) -> None:
        """Raise ``RuntimeError`` where a second optimizer would get wrong gradients."""
        plugin = trainer.precision_plugin
        if self.optimizers and isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
            raise RuntimeError(
                "a peer with its own optimizer cannot be combined with a gradient scaler (precision 16-mixed): use "
                "bf16-mixed, or a peer without configure_optimizers, which joins the student's optimizer"
            )

    def zero_grad(self) -> None:
        """Clear the peers' gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Step the peers' optimizers, then their per-step schedulers.

        The gradients are cleared at once: under manual optimization nothing else would clear them, and with two
        optimizers of the student the second step must not use them again.
        """
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._step_schedulers("step")

    def end_epoch(self) -> None:
        """Step the peers' per-epoch schedulers."""
        self._step_schedulers("epoch")

    def _step_schedulers(self, interval: str) -> None:
        for scheduler, when in self.schedulers:
            if when == interval:
                scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """States of the optimizers and schedulers."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler, _ in self.schedulers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for (scheduler, _), saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)


def _schedulers_in(configured: Any) -> list[_Scheduler]:
    if isinstance(configured, Mapping):
        found = configured.get("lr_scheduler")
        return [] if found is None else [_scheduler(found)]
    if not isinstance(configured, Sequence):
        return []
    if len(configured) == 2 and isinstance(configured[1], Sequence):
        return [_scheduler(item) for item in configured[1]]
    return [scheduler for item in configured for scheduler in _schedulers_in(item)]


def _scheduler(item: Any) -> _Scheduler:
    settings = item if isinstance(item, Mapping) else {"scheduler": item}
    scheduler, frequency = settings["scheduler"], settings.get("frequency", 1)
    if isinstance(scheduler, ReduceLROnPlateau) or frequency != 1:
        given = type(scheduler).__name__ + (f" with frequency={frequency}" if frequency != 1 else "")
        raise ValueError(
            f"a peer's configure_optimizers returned {given}, but a peer is not validated and its schedulers step at "
            "every optimizer step or epoch; use a scheduler without a metric and without a frequency, or a peer "
            "without configure_optimizers, which follows the student's schedule"
        )
    return scheduler, str(settings.get("interval", "epoch"))
