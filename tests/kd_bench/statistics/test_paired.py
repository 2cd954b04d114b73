from __future__ import annotations

from math import gamma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.statistics import paired_test, paired_tests
from scipy import stats

FIRST = [0.951, 0.944, 0.957, 0.949, 0.946]
SECOND = [0.941, 0.946, 0.943, 0.940, 0.939]
SCORES = st.lists(st.tuples(st.integers(0, 539), st.integers(0, 539)), min_size=2, max_size=9)


def test_interval_and_p_value_are_scipys_paired_t_test() -> None:
    found, expected = paired_test(FIRST, SECOND), stats.ttest_rel(FIRST, SECOND)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.t_p_value == pytest.approx(expected.pvalue)
    assert found.separated == (expected.pvalue < 0.05)


def test_the_effect_size_by_hand() -> None:
    differences = np.subtract(FIRST, SECOND)
    correction = gamma(2) / (np.sqrt(2) * gamma(1.5))
    expected = differences.mean() / differences.std(ddof=1) * correction
    assert paired_test(FIRST, SECOND).effect_size == pytest.approx(expected)


def test_five_seeds_that_all_agree_reach_the_smallest_p_values_of_exact_tests() -> None:
    found = paired_test(FIRST, [value - 0.01 for value in FIRST])
    assert (found.p_value, found.sign_p_value) == pytest.approx((2**-4, 2**-4))
    assert (found.half_width, found.t_p_value, found.effect_size) == (0.0, 0.0, None)
    assert found.separated


def test_equal_methods_are_not_told_apart() -> None:
    found = paired_test(FIRST, FIRST)
    assert (found.difference, found.half_width, found.p_value, found.separated) == (0.0, 0.0, 1.0, False)
    assert (found.t_p_value, found.sign_p_value, found.effect_size) == (1.0, 1.0, None)


@given(SCORES)
def test_swapping_the_methods_turns_the_difference_around(scores: list[tuple[int, int]]) -> None:
    first, second = ([number / 539 for number in side] for side in zip(*scores, strict=True))
    found, turned = paired_test(first, second), paired_test(second, first)
    assert turned.difference == pytest.approx(-found.difference, abs=1e-15)
    for name in ("half_width", "p_value", "t_p_value", "sign_p_value", "separated"):
        assert getattr(turned, name) == pytest.approx(getattr(found, name), abs=1e-12)
    for value in (found.p_value, found.t_p_value, found.sign_p_value):
        assert 0 <= value <= 1


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    random = np.random.default_rng(0)
    table, reference = random.integers(480, 520, size=(30, 5)) / 539, random.integers(480, 520, size=5) / 539
    assert paired_tests(table, reference) == [paired_test(list(row), list(reference)) for row in table]
    others = random.integers(480, 520, size=(30, 5)) / 539
    alone = [paired_test(list(row), list(other)) for row, other in zip(table, others, strict=True)]
    assert paired_tests(table, others) == alone


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="got 2 and 1 values"):
        paired_test([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least two"):
        paired_test([1.0], [2.0])
