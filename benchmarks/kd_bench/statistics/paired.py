"""Two methods on the same seeds: the difference, its interval, and the tests that few seeds allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from kd_bench.statistics.intervals import t_quantile
from kd_bench.statistics.sign_flip import sign_flip_p_values
from kd_bench.statistics.sign_test import sign_test_p_values


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same seeds.

    Attributes:
        n: number of seeds.
        difference: mean of (first - second).
        half_width: half the width of the difference's Student t interval.
        p_value: exact two-sided sign-flip test. It cannot be below ``2 ** (1 - n)``: 0.0625 with five seeds.
        t_p_value: two-sided paired t test, which agrees with the interval.
        sign_p_value: exact two-sided sign test, which only looks at who is ahead on each seed.
        effect_size: Hedges' g of the differences: their mean in units of their standard deviation, corrected for few
            seeds; ``None`` where they are all equal.
    """

    n: int
    difference: float
    half_width: float
    p_value: float
    t_p_value: float
    sign_p_value: float
    effect_size: float | None

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
    return paired_tests([first], second, confidence)[0]


def paired_tests(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> list[PairedTest]:
    """Compare many methods with one, or many with many, seed by seed.

    Args:
        first: ``(methods, seeds)``.
        second: ``(seeds,)``, or ``(methods, seeds)``, for the same seeds in the same order; at least two.
        confidence: coverage of each interval.

    Returns:
        One test a method.
    """
    # accuracies are multiples of 1 / N: differences that are equal on paper must be equal
    differences = np.round(np.asarray(first, dtype=float) - np.asarray(second, dtype=float), 12)
    count = differences.shape[1]
    means = differences.mean(axis=1)
    deviations = np.where(np.ptp(differences, axis=1) == 0, 0.0, differences.std(axis=1, ddof=1))
    errors = deviations / count**0.5
    sizes = means / np.where(deviations > 0, deviations, inf) * hedges_correction(count - 1)
    columns = (
        means,
        t_quantile(count - 1, confidence) * errors,
        sign_flip_p_values(differences),
        t_p_values(means, errors, count - 1),
        sign_test_p_values(differences),
        sizes,
        deviations,
    )
    return [
        PairedTest(count, mean, half_width, flips, t_test, signs, size if deviation > 0 else None)
        for mean, half_width, flips, t_test, signs, size, deviation in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def t_p_values(means: NDArray[np.float64], errors: NDArray[np.float64], degrees: ArrayLike) -> NDArray[np.float64]:
    """Two-sided p-values of Student's t; a mean without an error is certain, unless it is zero.

    Args:
        means: the differences.
        errors: their standard errors, which may be zero.
        degrees: their degrees of freedom.
    """
    scores = np.abs(means) / np.where(errors > 0, errors, 1.0)
    certain = np.where(means == 0, 1.0, 0.0)
    return np.where(errors > 0, np.minimum(1.0, 2 * special.stdtr(np.asarray(degrees, dtype=float), -scores)), certain)


def hedges_correction(degrees: int) -> float:
    r"""Factor that takes the bias out of a standardized mean difference.

    .. math:: J(d) = \frac{\Gamma(d / 2)}{\sqrt{d / 2}\;\Gamma((d - 1) / 2)}

    Args:
        degrees: degrees of freedom of the standard deviation; with one the mean of the size does not exist, and the
            factor is 0.

    >>> round(hedges_correction(4), 3)
    0.798
    """
    if degrees < 2:
        return 0.0
    logarithm = special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2)
    return float(np.exp(logarithm) / np.sqrt(degrees / 2))
