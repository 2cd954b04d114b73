from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.statistics import average_ranks, mid_ranks


def test_by_hand() -> None:
    assert mid_ranks([0.5, 0.7, 0.7, 0.7, 0.9]).tolist() == [5.0, 3.0, 3.0, 3.0, 1.0]
    assert average_ranks([[0.9, 0.8, 0.7], [0.6, 0.6, 0.6], [0.1, 0.2, 0.3]]).tolist() == [2.0, 2.0, 2.0]


def test_sums_in_another_order_tie() -> None:
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    assert mid_ranks([0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1]).tolist() == [1.5, 1.5]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_ranks_add_up(scores: list[int]) -> None:
    found = mid_ranks(scores)
    assert found.sum() == len(scores) * (len(scores) + 1) / 2
    assert (np.diff(found[np.argsort(scores)]) <= 0).all()
