"""How the fusion ratios of an epoch are distributed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BINS = 1000
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class AlphaDistribution:
    """Gathers ratios without waiting for the device and without growing.

    Quantiles come from a histogram and are right to 0.001.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None  # (2, bins): teacher wrong, teacher right
        self._moments: Tensor | None = None  # (2, 3): number, sum, sum of squares
        self._knows_teacher = False

    def add(self, alpha: Tensor, teacher_right: Tensor | None) -> None:
        """Add a batch.

        Args:
            alpha: ratios, ``(B,)``.
            teacher_right: whether the teacher predicts the label, ``(B,)``, or ``None`` without a teacher.
        """
        if self._counts is None or self._moments is None:
            self._counts = torch.zeros(2 * _BINS, dtype=torch.int64, device=alpha.device)
            exact = torch.float32 if alpha.device.type == "mps" else torch.float64
            self._moments = torch.zeros(2, 3, dtype=exact, device=alpha.device)
        self._knows_teacher = teacher_right is not None
        row = torch.zeros_like(alpha, dtype=torch.int64) if teacher_right is None else teacher_right.long()
        bins = row * _BINS + (alpha * _BINS).long().clamp(0, _BINS - 1)
        self._counts.index_add_(0, bins, torch.ones_like(bins))
        value = alpha.to(self._moments.dtype)
        members = torch.stack([row == 0, row == 1]).to(value.dtype)
        self._moments += torch.stack([members.sum(1), members @ value, members @ value.square()], dim=1)

    def take(self, strategy: Any) -> dict[str, Tensor]:
        """Summarise what was gathered over all ranks, and start again.

        Args:
            strategy: the Trainer's strategy, which adds up the ranks.

        Returns:
            ``mean``, ``std``, the quantiles and, where there were such samples, ``teacher_right`` and
            ``teacher_wrong`` (means); empty if nothing was gathered.
        """
        if self._counts is None or self._moments is None:
            return {}
        counts = strategy.reduce(self._counts, reduce_op="sum").view(2, _BINS).sum(0)
        moments = strategy.reduce(self._moments, reduce_op="sum").double().cpu()
        self._counts = self._moments = None
        number, total, squares = moments.sum(0)
        mean = total / number
        summary = {"mean": mean, "std": (squares / number - mean.square()).clamp_min(0.0).sqrt()}
        cumulative = counts.cumsum(0).double().cpu() / number
        for quantile in _QUANTILES:
            place = torch.searchsorted(cumulative, torch.tensor(quantile, dtype=torch.float64))
            summary[f"q{round(100 * quantile):02d}"] = (place + 0.5) / _BINS
        if self._knows_teacher:
            for row, name in ((1, "teacher_right"), (0, "teacher_wrong")):
                if moments[row, 0] > 0:
                    summary[name] = moments[row, 1] / moments[row, 0]
        return {name: value.float() for name, value in summary.items()}
