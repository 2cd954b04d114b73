"""Where the marks of the accuracy plot go.

Positions are percentages of the plot's width, so that the page can draw at any width without scaling its text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A labelled position on the axis."""

    x: str
    label: str


@dataclass(frozen=True)
class Axis:
    """A horizontal axis in percent accuracy.

    Attributes:
        low: value at the left edge.
        high: value at the right edge.
        step: distance between ticks.
    """

    low: float
    high: float
    step: float

    def at(self, value: float) -> str:
        """Position of ``value`` as an SVG length; values beyond an edge stay at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{100 * share:.3f}%"

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self) -> list[Tick]:
        """Ticks at round numbers, away from the edges so that no label is cut."""
        decimals = len(f"{self.step:.6g}".partition(".")[2])
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        values = [index * self.step for index in range(first, last + 1)]
        margin = 0.02 * (self.high - self.low)
        return [
            Tick(self.at(value), f"{value:.{decimals}f}")
            for value in values
            if self.low + margin <= value <= self.high - margin
        ]


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
