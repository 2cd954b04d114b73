from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.statistics import sign_test_p_values
from scipy import stats


@given(st.lists(st.sampled_from([-0.01, 0.0, 0.02]), min_size=1, max_size=12))
def test_it_is_the_binomial_test_without_ties(differences: list[float]) -> None:
    above, below = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    expected = stats.binomtest(above, above + below).pvalue if above + below else 1.0
    assert sign_test_p_values(differences)[0] == pytest.approx(expected)


def test_by_hand() -> None:
    # all five above: 2 / 2**5; four of five: 2 * (1 + 5) / 2**5
    found = sign_test_p_values([[0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, -0.1], [0.0] * 5])
    assert found.tolist() == pytest.approx([0.0625, 0.375, 1.0])
