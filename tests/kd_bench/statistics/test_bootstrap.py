from __future__ import annotations

import itertools

import numpy as np
import pytest
from kd_bench.statistics import bootstrap_interval
from scipy import stats

VALUES = [0.951, 0.944, 0.957, 0.949, 0.946, 0.953]


def test_six_seeds_get_scipys_bca_interval() -> None:
    found = bootstrap_interval(VALUES)
    expected = stats.bootstrap(
        (np.array(VALUES),), np.mean, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.method == "BCa"
    assert not found.too_narrow


def test_three_seeds_get_percentiles_of_all_resamples_and_a_warning() -> None:
    values = [0.90, 0.92, 0.97]
    means = sorted(np.mean(sample) for sample in itertools.product(values, repeat=3))
    found = bootstrap_interval(values)
    # 2.5 % of 27 resamples is less than one: the interval ends at the smallest and the largest value
    assert (found.low, found.high) == pytest.approx((means[0], means[-1]))
    assert found.method == "percentile"
    assert found.too_narrow
    assert found.resamples == len({tuple(sorted(sample)) for sample in itertools.product(range(3), repeat=3)})


def test_it_is_the_same_every_time_and_within_the_values() -> None:
    assert bootstrap_interval(VALUES) == bootstrap_interval(VALUES)
    found = bootstrap_interval(VALUES)
    assert min(VALUES) <= found.low <= found.mean <= found.high <= max(VALUES)


def test_equal_values_have_no_width() -> None:
    found = bootstrap_interval([0.9] * 7)
    assert (found.low, found.high) == pytest.approx((0.9, 0.9))
    assert found.method == "percentile"


def test_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two values, got 1"):
        bootstrap_interval([0.9])
