from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.statistics import holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the last may not fall below 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_one_alone_is_not_adjusted_and_none_stays_none() -> None:
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []


@given(P_VALUES)
def test_it_lies_between_the_p_values_and_bonferronis(values: list[float]) -> None:
    adjusted, given = holm(values), np.array(values)
    assert (adjusted >= given).all()
    assert (adjusted <= np.minimum(1, len(values) * given)).all()
    assert adjusted.min() == pytest.approx(min(1, len(values) * given.min()))


@given(P_VALUES, st.randoms())
def test_it_keeps_the_order_of_the_tests_whatever_their_places(values: list[float], random) -> None:
    places = list(range(len(values)))
    random.shuffle(places)
    adjusted = holm(values)
    assert holm([values[place] for place in places]).tolist() == [adjusted[place] for place in places]
    order = np.argsort(values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, wrong])
