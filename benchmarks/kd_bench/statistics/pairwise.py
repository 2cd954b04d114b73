"""All rows of a board against each other, seed by seed: which differences are more than noise?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from kd_bench.statistics.holm import holm
from kd_bench.statistics.moderation import VariancePrior, variance_prior
from kd_bench.statistics.paired import t_p_values

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pairwise:
    """The comparisons of all pairs of rows; all matrices are ``(rows, rows)``.

    Attributes:
        seeds: number of seeds that two rows share.
        difference: mean of (row - column) over these seeds; NaN with fewer than two.
        half_width: half the width of the simultaneous intervals: all of them hold together (Bonferroni over the pairs).
        p_value: two-sided, adjusted by Holm over all pairs; 1 with fewer than two shared seeds.
        better: whether the row is separated from the column and above it.
        prior: what the variances of the differences were found to have in common.
        pairs: size of the family, which is the number of pairs that share at least two seeds.
    """

    seeds: NDArray[np.int64]
    difference: Floats
    half_width: Floats
    p_value: Floats
    better: NDArray[np.bool_]
    prior: VariancePrior
    pairs: int


def pairwise_comparisons(values: ArrayLike, confidence: float = 0.95) -> Pairwise:
    """Paired t tests of all pairs of rows, with moderated variances and Holm's adjustment.

    Args:
        values: ``(rows, seeds)``, NaN where a row lacks a seed.
        confidence: one minus the chance of any false separation on the board.

    >>> board = pairwise_comparisons([[0.95, 0.96, 0.94], [0.90, 0.91, 0.90]])
    >>> bool(board.better[0, 1]), round(float(board.difference[0, 1]), 4)
    (True, 0.0467)
    """
    table = np.asarray(values, dtype=float)
    rows = len(table)
    first, second = np.triu_indices(rows, 1)
    shared = np.isfinite(table).astype(np.int64) @ np.isfinite(table).T.astype(np.int64)
    tested = shared[first, second] >= 2
    first, second = first[tested], second[tested]
    means, variances, counts = _moments(table[first] - table[second])
    prior = variance_prior(variances, counts - 1)
    variances, degrees = prior.moderate(variances, counts - 1)
    # never more than if all rows of the board had one variance, which each of them helps to estimate
    degrees = np.minimum(degrees, max(1.0, _residual_degrees(table)))
    errors = np.sqrt(variances / counts)
    adjusted = holm(t_p_values(means, errors, degrees))
    reach = special.stdtrit(degrees, 1 - (1 - confidence) / (2 * max(1, len(first))))
    lower, upper = (first, second), (second, first)
    difference, half_width = np.full((rows, rows), np.nan), np.full((rows, rows), np.nan)
    p_value, better = np.ones((rows, rows)), np.zeros((rows, rows), dtype=bool)
    np.fill_diagonal(difference, 0.0)
    np.fill_diagonal(half_width, 0.0)
    separated = adjusted < 1 - confidence
    for place, sign in ((lower, 1.0), (upper, -1.0)):
        difference[place] = sign * means
        half_width[place] = reach * errors
        p_value[place] = adjusted
        better[place] = separated & (sign * means > 0)
    return Pairwise(shared, difference, half_width, p_value, better, prior, len(first))


def _moments(differences: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, variance and number of what is there."""
    # accuracies are multiples of 1 / N: differences that are equal on paper must be equal
    rounded = np.round(differences, 12)
    there = np.isfinite(rounded)
    counts = there.sum(axis=1).astype(float)
    means = np.where(there, rounded, 0.0).sum(axis=1) / counts
    deviations = np.where(there, rounded - means[:, None], 0.0)
    deviations[np.abs(deviations) < 1e-12] = 0.0
    return means, (deviations**2).sum(axis=1) / (counts - 1), counts


def _residual_degrees(table: Floats) -> float:
    counts = np.isfinite(table).sum(axis=1)
    repeated = counts[counts >= 2]
    return float((repeated - 1).sum() - (repeated.max() - 1)) if len(repeated) else 1.0
