"""The axis that a plot of headlines needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """An axis in percent.

    Attributes:
        low: value at the left edge.
        high: value at the right edge.
        step: distance between ticks, a round number.
    """

    low: float
    high: float
    step: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies on the axis."""
        return self.low <= value <= self.high


def choose_axis(measured: Sequence[float], intervals: Sequence[float], max_ticks: int = 5) -> Axis:
    """An axis that shows everything measured, and the intervals as far as they leave room for it.

    Args:
        measured: values that must be visible, in percent.
        intervals: ends of intervals, in percent; those further out than the measured values span (as with two
            seeds) are cut at the edge.
        max_ticks: about how many ticks there should be.
    """
    low, high = min(measured), max(measured)
    span = max(high - low, 0.5)
    low = max(low - span, min([low, *intervals]))
    high = min(high + span, max([high, *intervals]))
    margin = 0.06 * max(high - low, 0.5)
    low, high = max(0.0, low - margin), min(100.0 + margin / 3, high + margin)
    return Axis(low, high, _round_step((high - low) / max_ticks))


def _round_step(raw: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(raw))
    return next(step * magnitude for step in _STEPS if step * magnitude >= raw * (1 - 1e-9))
