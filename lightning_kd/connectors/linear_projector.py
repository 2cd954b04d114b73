"""A linear projection of embeddings or tokens."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters


class LinearProjector(nn.Module):
    """Project the last dimension, ``(..., D_s)`` to ``(..., D_t)``.

    Args:
        student_dim: ``D_s``.
        teacher_dim: ``D_t``.
    """

    def __init__(self, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student_dim, teacher_dim)

    def forward(self, feature: Tensor) -> Tensor:
        """Project ``(..., D_s)`` to ``(..., D_t)``."""
        projected: Tensor = self.linear(like_parameters(feature, self))
        return projected
