"""Where the logits are in a network's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def find_logits(output: Any) -> Tensor:
    """Find the logits in ``output``: itself, ``.logits``, ``["logits"]`` or the first element.

    Args:
        output: whatever a network returned.

    Returns:
        The logits.

    Raises:
        TypeError: if none of the rules applies.

    >>> import torch
    >>> find_logits((torch.zeros(2, 3), None)).shape
    torch.Size([2, 3])
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        found: Tensor = output["logits"]
        return found
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Sequence) and output and isinstance(output[0], Tensor):
        return output[0]
    raise TypeError(
        f"no logits found in the network's output of type {type(output).__name__}: expected a tensor, an object with "
        '`.logits`, a mapping with "logits" or a sequence whose first element is a tensor. Return one of these, or '
        "pass `logits=` (a callable from output to logits)."
    )
