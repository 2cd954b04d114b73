"""Pearson correlation with a gradient that stays finite where a vector is constant."""

from __future__ import annotations

import torch
from torch import Tensor

# The value of DIST's authors, which their results contain: it keeps the correlation of nearly constant vectors below 1.
_EPS = 1e-8


def pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Correlation of ``x`` and ``y`` along ``dim``; 0 where one of them is constant.

    Args:
        x: any shape.
        y: the same shape.
        dim: dimension that is correlated and dropped.
    """
    x = x - x.mean(dim, keepdim=True)
    y = y - y.mean(dim, keepdim=True)
    # vector_norm has a zero subgradient at zero
    norms: Tensor = torch.linalg.vector_norm(x, dim=dim) * torch.linalg.vector_norm(y, dim=dim)
    return (x * y).sum(dim) / (norms + _EPS)
