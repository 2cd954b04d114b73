"""Random ratios: what an adaptive strategy has to beat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_kd.callbacks.fusion.step import FusionFit, FusionStep
from lightning_kd.callbacks.fusion.strategy import FusionStrategy


class RandomWeights(FusionStrategy):
    r"""Random weighting (RW): :math:`\alpha_i \sim U(0, 1)`, drawn anew for every sample and step.

    The draws depend on the seed, the rank and the number of the draw alone: they repeat, resume exactly, and leave the
    global random state alone. Not to be confused with RW-KD (Lu et al., Findings of EMNLP 2021), which learns its
    weights.

    Args:
        seed: seed of the draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._draws = 0

    @override
    def begin(self, fit: FusionFit) -> None:
        """Start with the first draw."""
        self._draws = 0

    @override
    def alpha(self, step: FusionStep) -> Tensor:
        """Random numbers, ``(B,)``."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, step.rank, self._draws))
        self._draws += 1
        return torch.rand(len(step.task), generator=generator, dtype=step.task.dtype).to(step.task.device)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The number of draws made."""
        return {"draws": self._draws}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the next draw."""
        self._draws = state["draws"]


def mixed_seed(*parts: int) -> int:
    """One seed for a tuple of whole numbers."""
    mixed = 0
    for part in parts:
        # a linear congruential step a part: near-by tuples must not share a stream
        mixed = ((mixed ^ part) * 6364136223846793005 + 1442695040888963407) % 2**63
    return mixed
