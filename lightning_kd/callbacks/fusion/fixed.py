"""The same ratio for every sample, always."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lightning_kd.callbacks.fusion.step import FusionStep
from lightning_kd.callbacks.fusion.strategy import FusionStrategy, check_share


class Fixed(FusionStrategy):
    r"""A constant :math:`\alpha`: the classical mixture of labels and teacher.

    Args:
        ratio: share of the distillation loss.

    Raises:
        ValueError: if the share is not between 0 and 1.
    """

    def __init__(self, ratio: float = 0.5) -> None:
        check_share("ratio", ratio)
        self.ratio = ratio

    @override
    def alpha(self, step: FusionStep) -> Tensor:
        """The constant, ``(B,)``."""
        return torch.full_like(step.task, self.ratio)
