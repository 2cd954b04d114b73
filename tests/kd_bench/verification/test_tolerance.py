"""How much is accepted of a retraining: what an honest result needs, and no more than the caps."""

from __future__ import annotations

import numpy as np
import pytest
from kd_bench.verification.tolerance import (
    RETRAINED_MEAN_CAP,
    RETRAINED_MEAN_FLOOR,
    RETRAINED_SEED_CAP,
    RETRAINED_SEED_FLOOR,
    RetrainingTolerance,
    retraining_tolerance,
)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_honest_results_are_accepted_as_often_as_stated(count: int) -> None:
    random = np.random.default_rng(count)
    # noise at which neither floor nor cap decides often
    deviation, trials = 0.004, 4000
    claimed, found = (random.normal(0.9, deviation, (trials, count)) for _ in range(2))
    tolerances = [retraining_tolerance(row.tolist(), count) for row in claimed]
    mean = np.abs((found - claimed).mean(axis=1)) <= [each.mean for each in tolerances]
    seeds = np.abs(found - claimed).max(axis=1) <= [each.seed for each in tolerances]
    assert mean.mean() > 0.94
    assert seeds.mean() > 0.90


def test_equal_seeds_leave_the_floors() -> None:
    assert retraining_tolerance([0.9, 0.9, 0.9], 3) == RetrainingTolerance(RETRAINED_SEED_FLOOR, RETRAINED_MEAN_FLOOR)


def test_nothing_is_known_of_the_noise_of_one_seed() -> None:
    assert retraining_tolerance([0.9], 1) == RetrainingTolerance(RETRAINED_SEED_FLOOR, RETRAINED_MEAN_FLOOR)


def test_scattered_claims_do_not_buy_more_than_the_caps() -> None:
    assert retraining_tolerance([0.1, 0.5, 0.9], 3) == RetrainingTolerance(RETRAINED_SEED_CAP, RETRAINED_MEAN_CAP)


def test_more_seeds_are_judged_more_strictly() -> None:
    claimed = [0.900, 0.904, 0.908, 0.902, 0.906]
    means = [retraining_tolerance(claimed, count).mean for count in range(1, 6)]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1] * 2


@pytest.mark.parametrize(("claimed", "count"), [([], 1), ([0.9], 0)])
def test_no_seed_is_no_retraining(claimed: list[float], count: int) -> None:
    with pytest.raises(ValueError, match="a retraining needs a seed"):
        retraining_tolerance(claimed, count)
