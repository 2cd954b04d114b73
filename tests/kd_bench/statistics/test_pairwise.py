from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kd_bench.statistics import holm, pairwise_comparisons
from scipy import stats

BOARDS = st.tuples(st.integers(1, 9), st.integers(1, 5)).flatmap(
    lambda shape: arrays(
        float, shape, elements=st.one_of(st.just(float("nan")), st.integers(0, 360).map(lambda n: n / 360))
    )
)


def test_few_rows_are_compared_by_scipys_paired_t_tests_and_holm() -> None:
    table = np.random.default_rng(0).normal(0.9, 0.01, size=(4, 5)) + np.array([[0.05], [0.04], [0.0], [0.0]])
    found = pairwise_comparisons(table)
    assert found.prior.degrees == 0
    first, second = np.triu_indices(4, 1)
    tests = [stats.ttest_rel(table[i], table[j]) for i, j in zip(first, second, strict=True)]
    assert found.p_value[first, second] == pytest.approx(holm([test.pvalue for test in tests]))
    simultaneous = [test.confidence_interval(1 - 0.05 / 6) for test in tests]
    assert (found.difference - found.half_width)[first, second] == pytest.approx([one.low for one in simultaneous])
    assert (found.difference + found.half_width)[first, second] == pytest.approx([one.high for one in simultaneous])
    assert found.better[0, 2]
    assert found.pairs == 6


def test_rows_of_one_noise_are_compared_by_the_residuals_of_all() -> None:
    # many rows: the residual variance of rows and seeds, with (rows - 1) * (seeds - 1) degrees of freedom
    random = np.random.default_rng(1)
    table = 0.9 + 0.003 * random.normal(size=(40, 4))
    found = pairwise_comparisons(table)
    residuals = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    pooled = 2 * (residuals**2).sum() / (39 * 3)
    assert found.prior.variance == pytest.approx(pooled, rel=0.15)
    # each pair's own t interval would be wider: three degrees of freedom, and 780 pairs
    alone = stats.t.ppf(1 - 0.025 / 780, 3) * np.sqrt(pooled / 4)
    assert found.half_width[np.triu_indices(40, 1)].max() < 0.5 * alone


@pytest.mark.parametrize(("rows", "seeds"), [(2, 3), (3, 5), (8, 3), (20, 5)])
@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_boards_without_a_difference_rarely_show_one(rows: int, seeds: int, spread: float) -> None:
    random = np.random.default_rng([rows, seeds])
    boards, wrong = 400, 0
    for _ in range(boards):
        scale = np.exp(spread * random.normal(size=(rows, 1)))
        table = 0.9 + 0.003 * (scale * random.normal(size=(rows, seeds)) + random.normal(size=seeds))
        wrong += int(pairwise_comparisons(table).better.any())
    assert wrong / boards < 0.09


def test_a_clear_difference_is_found_among_many_rows_with_three_seeds() -> None:
    random = np.random.default_rng(0)
    table = 0.9 + 0.003 * random.normal(size=(30, 3))
    table[:3] += 0.04
    found = pairwise_comparisons(table)
    assert found.better[:3, 3:].all()
    assert not found.better[3:].any()
    assert not found.better[:3, :3].any()


@settings(deadline=None)
@given(BOARDS, st.randoms())
def test_properties_hold_for_any_board(table: np.ndarray, random) -> None:
    found = pairwise_comparisons(table)
    rows = len(table)
    assert ((found.p_value >= 0) & (found.p_value <= 1)).all()
    assert (found.p_value == found.p_value.T).all()
    assert np.array_equal(found.difference, -found.difference.T, equal_nan=True)
    assert not (found.better & found.better.T).any()
    untested = (found.seeds < 2) & ~np.eye(rows, dtype=bool)
    assert np.isnan(found.difference[untested]).all()
    assert not found.better[untested].any()
    order = list(range(rows))
    random.shuffle(order)
    moved, place = pairwise_comparisons(table[order]), np.ix_(order, order)
    assert np.allclose(moved.difference, found.difference[place], equal_nan=True)
    assert np.allclose(moved.p_value, found.p_value[place], atol=1e-9)


def test_only_shared_seeds_are_compared() -> None:
    nan = float("nan")
    found = pairwise_comparisons([[0.95, 0.97, 0.96, nan], [nan, 0.90, 0.91, 0.92], [nan, nan, nan, 0.9]])
    assert found.seeds.tolist() == [[3, 2, 0], [2, 3, 1], [0, 1, 1]]
    assert found.difference[0, 1] == pytest.approx(0.06)
    assert np.isnan(found.difference[2, 0])
    assert found.p_value[2, 0] == 1
    assert found.pairs == 1


def test_constant_differences_are_certain_unless_they_are_zero() -> None:
    found = pairwise_comparisons([[0.95, 0.96], [0.94, 0.95], [0.94, 0.95]])
    assert found.p_value[0, 1] == 0
    assert found.better[0, 1]
    assert found.p_value[1, 2] == 1
    assert not found.better[1, 2]
