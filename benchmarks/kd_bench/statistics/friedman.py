"""Whether methods differ across boards, and which average ranks lie far enough apart: Friedman and Nemenyi."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats


@dataclass(frozen=True)
class FriedmanTest:
    """Friedman's test that all methods have the same average rank.

    Attributes:
        boards: number of boards ``N``.
        methods: number of methods ``k``.
        chi_square: the statistic, corrected for ties.
        p_value: from the chi-square distribution with ``k - 1`` degrees of freedom, an approximation that needs about
            ten boards.
        f_value: Iman and Davenport's statistic, less conservative.
        f_p_value: from the F distribution with ``k - 1`` and ``(k - 1)(N - 1)`` degrees of freedom.
    """

    boards: int
    methods: int
    chi_square: float
    p_value: float
    f_value: float
    f_p_value: float


def friedman_test(scores: ArrayLike) -> FriedmanTest:
    r"""Test whether the methods differ at all.

    .. math:: F = \frac{(N - 1)\,\chi^2_F}{N (k - 1) - \chi^2_F}

    Args:
        scores: ``(boards, methods)``, at least two boards and three methods.

    Raises:
        ValueError: if there are fewer.

    Reference: Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR, 2006.
    """
    table = np.round(np.asarray(scores, dtype=float), 12)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3:
        raise ValueError(f"friedman_test needs at least two boards and three methods, got the shape {table.shape}")
    boards, methods = table.shape
    if (np.ptp(table, axis=1) == 0).all():  # nothing but ties
        return FriedmanTest(boards, methods, 0.0, 1.0, 0.0, 1.0)
    found = stats.friedmanchisquare(*table.T)
    chi_square = float(found.statistic)
    left = boards * (methods - 1) - chi_square
    f_value = (boards - 1) * chi_square / left if left > 1e-9 else inf
    f_p_value = float(special.fdtrc(methods - 1, (methods - 1) * (boards - 1), f_value)) if f_value < inf else 0.0
    return FriedmanTest(boards, methods, chi_square, float(found.pvalue), f_value, f_p_value)


def critical_difference(methods: int, boards: int, alpha: float = 0.05) -> float:
    r"""How far two average ranks must lie apart to differ, all pairs of methods considered (Nemenyi's test).

    .. math:: \mathrm{CD} = q_\alpha \sqrt{\frac{k (k + 1)}{6 N}}

    Args:
        methods: number of methods ``k``, at least two.
        boards: number of boards ``N``.
        alpha: level of the test.

    Reference: Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR, 2006.

    >>> round(critical_difference(methods=4, boards=14, alpha=0.05), 2)
    1.25
    """
    return nemenyi_quantile(methods, alpha) * float(np.sqrt(methods * (methods + 1) / (6 * boards)))


@cache
def nemenyi_quantile(methods: int, alpha: float = 0.05) -> float:
    """Upper quantile of the studentized range for infinite degrees of freedom, divided by the root of two.

    Args:
        methods: number of methods, at least two.
        alpha: level of the test.

    Raises:
        ValueError: if there are fewer than two methods.

    >>> round(nemenyi_quantile(10), 3)
    3.164
    """
    if methods < 2:
        raise ValueError(f"ranks of at least two methods can be compared, got {methods}")
    return float(stats.studentized_range.ppf(1 - alpha, methods, inf) / np.sqrt(2))
