"""From pixels as they are stored to what networks are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Standardize:
    """Pixels ``0…255`` of ``(..., C, H, W)`` → single-precision numbers with about zero mean and unit deviation.

    The same numbers, bit for bit, as torchvision's ``ToTensor`` and ``Normalize`` give.

    Args:
        mean: of each channel, in units of the full range.
        std: standard deviation of each channel.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = (torch.tensor(tuple(values))[:, None, None] for values in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        """Standardize."""
        return images.float().div_(255).sub_(self.mean).div_(self.std)
