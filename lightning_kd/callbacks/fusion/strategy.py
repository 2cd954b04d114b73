"""The base class of the strategies that choose the fusion ratio."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_kd.callbacks.fusion.step import FusionFit, FusionStep


class FusionStrategy:
    r"""Chooses the share :math:`\alpha_i \in [0, 1]` of the distillation loss in the loss of sample :math:`i`.

    Write :meth:`alpha`; the other hooks are for strategies that keep something between steps.
    """

    def setup(self, fit: FusionFit) -> None:
        """Prepare before the data are loaded; what is changed here, :meth:`teardown` undoes."""

    def begin(self, fit: FusionFit) -> None:
        """Start afresh, with the student and the teachers in place; :meth:`load_state_dict` follows on resume."""

    def check(self, fit: FusionFit) -> None:
        """Look at the situation once all dataloaders are known."""

    def before_step(self, fit: FusionFit) -> None:
        """Prepare for a training step; runs outside of the student's forward."""

    def update(self, step: FusionStep) -> None:
        """Learn from a step, before :meth:`alpha` is asked."""

    def alpha(self, step: FusionStep) -> Tensor:
        """Return the ratios of the samples, ``(B,)``; called without gradients."""
        raise NotImplementedError(f"{type(self).__name__} must implement alpha(step) and return a (B,) tensor")

    def teardown(self) -> None:
        """Undo what :meth:`setup` did and let go of the fit."""

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


def check_share(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value`` is in ``[0, 1]``."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is the share of the distillation loss and must be between 0 and 1, got {value}")
