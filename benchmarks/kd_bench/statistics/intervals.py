"""A mean over seeds, and how far it can be trusted: Student's t interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its Student t interval.

    Attributes:
        n: number of values.
        mean: their mean.
        half_width: half the interval's width; ``None`` for a single value, about which nothing can be said.
    """

    n: int
    mean: float
    half_width: float | None

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean itself for a single value."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean itself for a single value."""
        return self.mean + (self.half_width or 0.0)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> MeanInterval:
    """Mean and Student t interval.

    Args:
        values: at least one.
        confidence: coverage of the interval.

    Raises:
        ValueError: if there is no value.

    >>> interval = mean_interval([0.90, 0.92, 0.94])
    >>> round(interval.mean, 4), round(interval.half_width, 4)
    (0.92, 0.0497)
    """
    count = len(values)
    if not count:
        raise ValueError("mean_interval needs at least one value, got none")
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if count == 1:
        return MeanInterval(1, mean, None)
    error = float(array.std(ddof=1)) / count**0.5
    return MeanInterval(count, mean, t_quantile(count - 1, confidence) * error)


@cache
def t_quantile(degrees: float, confidence: float = 0.95) -> float:
    """How many standard errors a two-sided t interval reaches to each side.

    Args:
        degrees: degrees of freedom, not necessarily whole.
        confidence: coverage of the interval.

    >>> round(t_quantile(4), 3)
    2.776
    """
    return float(special.stdtrit(degrees, 0.5 + confidence / 2))
