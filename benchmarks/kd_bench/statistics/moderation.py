"""How noisy a comparison is: variances that few seeds estimate badly borrow from the others of the board."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

FEWEST = 10
"""Variances that are needed to say how much variances differ: those of five rows, two at a time."""

_SMALLEST = 1e-5
"""A variance below this share of the median is an accident of rounding."""


@dataclass(frozen=True)
class VariancePrior:
    """What the variances of a board have in common.

    Attributes:
        variance: the typical one.
        degrees: how many degrees of freedom it is worth: few where the variances differ much, infinitely many where
            they differ no more than chance explains, zero where there is nothing to borrow from.
    """

    variance: float
    degrees: float

    def moderate(
        self, variances: NDArray[np.float64], degrees: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        r"""Variances and their degrees of freedom after borrowing.

        .. math:: \tilde s^2 = \frac{d_0 s_0^2 + d s^2}{d_0 + d}, \qquad \tilde d = d_0 + d

        Args:
            variances: those that were measured.
            degrees: their degrees of freedom ``d``.
        """
        if self.degrees == inf:
            return np.full_like(variances, self.variance), np.full_like(degrees, inf)
        total = self.degrees + degrees
        return (self.degrees * self.variance + degrees * variances) / total, total


NOTHING = VariancePrior(0.0, 0.0)
"""Every variance stands for itself: the ordinary t test."""


def variance_prior(variances: ArrayLike, degrees: ArrayLike) -> VariancePrior:
    r"""Estimate what variances have in common, from the mean and spread of their logarithms.

    If :math:`s^2 \sim s_0^2 F_{d, d_0}`, then :math:`\log s^2` has known moments, from which :math:`s_0^2` and
    :math:`d_0` follow. With three or five seeds a variance of its own has two or four degrees of freedom; a small one
    is mostly luck, and a test that believes it separates the wrong rows.

    Args:
        variances: measured, at least :data:`FEWEST` that are not zero; else nothing is borrowed.
        degrees: their degrees of freedom, each at least one.

    Reference: Smyth, "Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray
    Experiments", Statistical Applications in Genetics and Molecular Biology, 2004.

    >>> variance_prior([1.0, 2.0], [2, 2])
    VariancePrior(variance=0.0, degrees=0.0)
    """
    measured, halves = np.asarray(variances, dtype=float), np.asarray(degrees, dtype=float) / 2
    positive = measured[measured > 0]
    if len(positive) < FEWEST:
        return NOTHING
    logarithms = np.log(np.maximum(measured, _SMALLEST * np.median(positive)))
    centred = logarithms - special.digamma(halves) + np.log(halves)
    mean = float(centred.mean())
    excess = float(centred.var(ddof=1) - special.polygamma(1, halves).mean())
    if excess <= 1e-6:
        return VariancePrior(float(np.exp(mean)), inf)
    half = float(optimize.brentq(lambda x: float(special.polygamma(1, x)) - excess, 1e-4, 2e6))
    return VariancePrior(float(np.exp(mean + special.digamma(half) - np.log(half))), 2 * half)
