"""Later calls of a network's layers in the precision of its forward pass."""

from __future__ import annotations

import torch
from torch import Tensor


class Precision:
    """Whether and how autocast was on for a call.

    A method that asks a detector for more may have switched autocast off; the layers must see what they saw before.

    Args:
        example: any tensor of the call, for its device.
    """

    def __init__(self, example: Tensor) -> None:
        self._device = example.device.type
        self._enabled = torch.is_autocast_enabled(self._device)
        self._dtype = torch.get_autocast_dtype(self._device)

    def again(self) -> torch.autocast:
        """A context with autocast as it was."""
        return torch.autocast(self._device, dtype=self._dtype, enabled=self._enabled)
