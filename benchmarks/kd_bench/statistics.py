"""What can be said about a handful of seeds: means, intervals, paired comparisons. Nothing here is ever stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_ALL_SIGNS = 16
"""Up to this many pairs all sign patterns are enumerated (2**16); beyond, they are sampled."""


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


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same seeds.

    Attributes:
        n: number of seeds.
        difference: mean of (first - second).
        half_width: half the width of the difference's Student t interval.
        p_value: exact two-sided sign-flip test. It cannot be below ``2 ** (1 - n)``: 0.0625 with five seeds.
    """

    n: int
    difference: float
    half_width: float
    p_value: float

    @property
    def low(self) -> float:
        """Lower end of the interval of the difference."""
        return self.difference - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval of the difference."""
        return self.difference + self.half_width

    @property
    def separated(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return self.low > 0 or self.high < 0


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
    if not len(values):
        raise ValueError("mean_interval needs at least one value, got none")
    mean = float(np.mean(values))
    if len(values) == 1:
        return MeanInterval(1, mean, None)
    quantile = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1))
    return MeanInterval(len(values), mean, quantile * float(stats.sem(values)))


def paired_test(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> PairedTest:
    """Compare two methods seed by seed.

    Args:
        first: one value a seed.
        second: the other method's values for the same seeds, in the same order.
        confidence: coverage of the interval.

    Raises:
        ValueError: if the lengths differ or there are fewer than two pairs.

    >>> paired_test([0.93, 0.95, 0.94], [0.90, 0.91, 0.92]).p_value
    0.25
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"a paired comparison needs the same seeds on both sides and at least two of them, got {len(first)} and "
            f"{len(second)} values"
        )
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    interval = mean_interval(list(differences), confidence)
    assert interval.half_width is not None
    return PairedTest(len(differences), interval.mean, interval.half_width, _sign_flip_p_value(differences))


def gap_closed(accuracy: float, student: float, teacher: float) -> float | None:
    """Share of the gap between plain student and teacher that a method closes.

    Args:
        accuracy: the method's mean accuracy.
        student: the plain student's mean accuracy.
        teacher: the teacher's accuracy.

    Returns:
        ``(accuracy - student) / (teacher - student)``, or ``None`` where the teacher is not better than the student.
    """
    return (accuracy - student) / (teacher - student) if teacher > student else None


def _sign_flip_p_value(differences: np.ndarray) -> float:
    # rounding: accuracies are multiples of 1 / N, and flipped sums that are equal on paper must count as equal
    rounded = np.round(differences, 12)
    if not rounded.any():
        return 1.0
    result = stats.permutation_test(
        (rounded,),
        lambda sample, axis: np.round(np.sum(sample, axis=axis), 10),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if len(rounded) <= _ALL_SIGNS else 2**_ALL_SIGNS,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)
