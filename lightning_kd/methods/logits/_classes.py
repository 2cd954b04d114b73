"""What the logit losses share: splitting the target class from the others."""

from __future__ import annotations

import torch
from torch import Tensor


def check_matrix(logits: Tensor) -> None:
    """Raise ``ValueError`` unless the logits are a matrix ``(B, C)``."""
    if logits.dim() != 2:
        raise ValueError(
            f"expected logits of shape (B, C), got {tuple(logits.shape)}; flatten dense predictions to (B*H*W, C) or "
            "use a method of the language family for tokens"
        )


def without_target(values: Tensor, target: Tensor) -> Tensor:
    """Drop the target's column of every row: ``(B, C)`` → ``(B, C - 1)``, the order of the others kept.

    A choice between two shifted views keeps the shape static, so that the graph compiles whole, and unlike a gather
    needs no index as large as the result.
    """
    behind = torch.arange(values.shape[-1] - 1, device=values.device) >= target.unsqueeze(-1)
    return torch.where(behind, values[..., 1:], values[..., :-1])
