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

    Indices instead of a boolean mask keep the shape static, so that the graph compiles whole.
    """
    columns = torch.arange(values.shape[-1] - 1, device=values.device)
    others = columns + (columns >= target.unsqueeze(-1))
    return values.gather(-1, others)
