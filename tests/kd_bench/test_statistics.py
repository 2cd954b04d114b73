from __future__ import annotations

import itertools

import numpy as np
import pytest
from kd_bench.statistics import gap_closed, mean_interval, paired_test
from scipy import stats

FIRST = [0.951, 0.944, 0.957, 0.949, 0.946]
SECOND = [0.941, 0.946, 0.943, 0.940, 0.939]


def test_mean_interval_is_scipys() -> None:
    found = mean_interval(FIRST)
    expected = stats.t.interval(0.95, df=4, loc=np.mean(FIRST), scale=stats.sem(FIRST))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(FIRST))
    assert found.n == 5


def test_mean_interval_by_hand() -> None:
    # 1, 2, 3: deviation 1, standard error 1 / sqrt(3), t quantile of two degrees of freedom 4.302653
    assert mean_interval([1.0, 2.0, 3.0]).half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_a_single_value_has_no_interval() -> None:
    found = mean_interval([0.9])
    assert found.half_width is None
    assert (found.low, found.mean, found.high) == (0.9, 0.9, 0.9)


def test_paired_interval_is_scipys_paired_t() -> None:
    found = paired_test(FIRST, SECOND)
    expected = stats.ttest_rel(FIRST, SECOND).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.separated == (stats.ttest_rel(FIRST, SECOND).pvalue < 0.05)


@pytest.mark.parametrize("count", [2, 5, 7])
def test_the_sign_flip_p_value_counts_all_sign_patterns(count: int) -> None:
    random = np.random.default_rng(count)
    first, second = random.integers(480, 520, size=(2, count)) / 539
    differences = np.round((first - second) * 539)
    patterns = np.array(list(itertools.product([-1, 1], repeat=count)))
    sums = np.abs(patterns @ differences)
    expected = np.mean(sums >= abs(differences.sum()))
    assert paired_test(first, second).p_value == pytest.approx(expected)


def test_five_seeds_that_all_agree_reach_the_smallest_p_value() -> None:
    assert paired_test(FIRST, [value - 0.01 for value in FIRST]).p_value == pytest.approx(2**-4)


def test_equal_methods_are_not_told_apart() -> None:
    found = paired_test(FIRST, FIRST)
    assert (found.difference, found.half_width, found.p_value, found.separated) == (0.0, 0.0, 1.0, False)


def test_many_seeds_are_sampled_reproducibly() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 20))
    assert paired_test(first, second).p_value == paired_test(first, second).p_value
    assert paired_test(first, second).p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.05)


def test_gap_closed() -> None:
    assert gap_closed(0.95, student=0.90, teacher=1.0) == pytest.approx(0.5)
    assert gap_closed(0.85, student=0.90, teacher=1.0) == pytest.approx(-0.5)
    assert gap_closed(0.95, student=0.90, teacher=0.90) is None


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="got none"):
        mean_interval([])
    with pytest.raises(ValueError, match="got 2 and 1 values"):
        paired_test([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least two"):
        paired_test([1.0], [2.0])
