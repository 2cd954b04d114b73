from __future__ import annotations

import numpy as np
import pytest
from kd_bench.statistics import mean_interval, t_quantile
from scipy import stats

VALUES = [0.951, 0.944, 0.957, 0.949, 0.946]


def test_mean_interval_is_scipys() -> None:
    found = mean_interval(VALUES)
    expected = stats.t.interval(0.95, df=4, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.mean == pytest.approx(np.mean(VALUES))
    assert found.n == 5


def test_mean_interval_by_hand() -> None:
    # 1, 2, 3: deviation 1, standard error 1 / sqrt(3), t quantile of two degrees of freedom 4.302653
    assert mean_interval([1.0, 2.0, 3.0]).half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_a_single_value_has_no_interval() -> None:
    found = mean_interval([0.9])
    assert found.half_width is None
    assert (found.low, found.mean, found.high) == (0.9, 0.9, 0.9)


@pytest.mark.parametrize("degrees", [1, 2.5, 4, 30])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_quantiles_are_scipys(degrees: float, confidence: float) -> None:
    assert t_quantile(degrees, confidence) == pytest.approx(stats.t.ppf(0.5 + confidence / 2, degrees))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="got none"):
        mean_interval([])
