"""How far a number that was found may be from the one that was claimed, level by level; nothing else decides it.

Recomputing and re-evaluating leave no room but for rounding. Training again does: another processor rounds differently,
training amplifies that, and then a seed's result is a new draw from the same noise that separates the seeds. What can
be asked of an honest result is that the two do not differ by more than that noise explains, and the claimed results
themselves say how large it is; ``docs/verification.md`` has the reasoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kd_bench.statistics.intervals import t_quantile

PREDICTIONS = 1e-6
"""Of a score that is computed again from the predictions: machines sum up float32 in different orders."""

CHECKPOINT = 0.001
"""Of the headline of weights that are evaluated again: 0.1 points."""

CHECKPOINT_AGREEMENT = 0.995
"""Share of the test samples on which these must predict the class that was predicted."""

CHECKPOINT_CONFIDENCE = 0.005
"""Largest mean difference between the confidence that they have and had; another network's is several times that."""

RETRAINED_MEAN_FLOOR, RETRAINED_MEAN_CAP = 0.005, 0.02
"""Least and most that is accepted of the mean over retrained seeds: half a point, and two."""

RETRAINED_SEED_FLOOR, RETRAINED_SEED_CAP = 0.01, 0.05
"""Least and most that is accepted of a single retrained seed: one point, and five."""

CONFIDENCE = 0.95
"""Probability with which an honest result is accepted, if its seeds are normally distributed."""


@dataclass(frozen=True)
class RetrainingTolerance:
    """What is accepted of a retraining, as fractions.

    Attributes:
        seed: largest difference of any seed.
        mean: largest difference of the mean over the seeds that were trained again.
    """

    seed: float
    mean: float


def retraining_tolerance(claimed: Sequence[float], retrained: int) -> RetrainingTolerance:
    r"""What is accepted, known before anything is trained.

    With the standard deviation :math:`s` of the :math:`n` claimed seeds, the difference between two independent draws
    has :math:`\sqrt 2\,s`, and that between the means of :math:`m` such pairs :math:`s\sqrt{2/m}`. The mean is accepted
    within :math:`t_{0.975,\,n-1}\,s\sqrt{2/m}`; a single seed within the same of one pair, with the error shared among
    the :math:`m` of them. Both have a floor and a cap.

    Args:
        claimed: the headlines of all claimed seeds.
        retrained: how many of them are trained again.

    Raises:
        ValueError: if there is no seed.

    >>> tolerance = retraining_tolerance([0.90, 0.91, 0.92, 0.91, 0.91], 5)
    >>> round(tolerance.mean, 4), round(tolerance.seed, 4)
    (0.0124, 0.046)
    >>> retraining_tolerance([0.99, 0.99, 0.99], 3)
    RetrainingTolerance(seed=0.01, mean=0.005)
    """
    if not claimed or retrained < 1:
        raise ValueError(f"a retraining needs a seed, got {len(claimed)} claimed and {retrained} retrained")
    if len(claimed) == 1:  # nothing is known of the noise
        return RetrainingTolerance(RETRAINED_SEED_FLOOR, RETRAINED_MEAN_FLOOR)
    deviation = float(np.std(claimed, ddof=1))
    degrees = len(claimed) - 1
    of_mean = t_quantile(degrees, CONFIDENCE) * deviation * (2 / retrained) ** 0.5
    of_seed = t_quantile(degrees, 1 - (1 - CONFIDENCE) / retrained) * deviation * 2**0.5
    return RetrainingTolerance(
        seed=min(max(of_seed, RETRAINED_SEED_FLOOR), RETRAINED_SEED_CAP),
        mean=min(max(of_mean, RETRAINED_MEAN_FLOOR), RETRAINED_MEAN_CAP),
    )
