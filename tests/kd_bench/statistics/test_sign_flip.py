from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.statistics import sign_flip_p_values
from scipy import stats

DIFFERENCES = st.lists(st.integers(-30, 30).map(lambda number: number / 539), min_size=2, max_size=8)


def by_hand(differences: list[float]) -> float:
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    whole = np.round(np.array(differences) * 539)
    return float(np.mean(np.abs(patterns @ whole) >= abs(whole.sum())))


@given(DIFFERENCES)
def test_all_sign_patterns_are_counted(differences: list[float]) -> None:
    found = sign_flip_p_values(differences)
    assert found.tolist() == pytest.approx([by_hand(differences)])
    assert 2.0 ** (1 - len(differences)) <= found[0] <= 1
    assert sign_flip_p_values([-value for value in differences]).tolist() == found.tolist()


def test_rows_are_tested_one_by_one() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 7))
    assert sign_flip_p_values(rows).tolist() == [sign_flip_p_values(row)[0] for row in rows]


def test_it_is_scipys_permutation_test() -> None:
    row = np.random.default_rng(1).normal(0.5, size=10)
    expected = stats.permutation_test((row,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p_values(row)[0] == pytest.approx(expected.pvalue)


def test_sixteen_seeds_are_enumerated_and_more_are_sampled() -> None:
    assert sign_flip_p_values(np.ones(16))[0] == 2.0**-15
    random = np.random.default_rng(0)
    row = random.normal(0.3, size=20)
    assert sign_flip_p_values(row) == sign_flip_p_values(row)
    assert sign_flip_p_values(row)[0] == pytest.approx(stats.ttest_1samp(row, 0).pvalue, abs=0.02)
    assert 0 < sign_flip_p_values(np.ones(20))[0] < 1e-3
