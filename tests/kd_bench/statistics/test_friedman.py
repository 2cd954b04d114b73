from __future__ import annotations

from math import inf

import numpy as np
import pytest
from kd_bench.statistics import average_ranks, critical_difference, friedman_test, nemenyi_quantile
from scipy import stats

# Demšar 2006, table 5 (a), for two to ten classifiers
AT_5 = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
AT_10 = (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920)

# Demšar 2006, table 6: AUC of C4.5 with four ways of choosing its parameters on fourteen data sets
DEMSAR = [
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
]  # fmt: skip


@pytest.mark.parametrize(("alpha", "expected"), [(0.05, AT_5), (0.10, AT_10)])
def test_quantiles_are_those_of_the_published_table(alpha: float, expected: tuple[float, ...]) -> None:
    found = [nemenyi_quantile(methods, alpha) for methods in range(2, 11)]
    assert found == pytest.approx(expected, abs=0.0015)


def test_two_methods_are_compared_by_the_normal_distribution() -> None:
    assert nemenyi_quantile(2) == pytest.approx(stats.norm.ppf(0.975))


def test_demsars_example() -> None:
    assert average_ranks(DEMSAR) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    found = friedman_test(DEMSAR)
    # the paper's statistic is not corrected for ties; ours is, and therefore larger
    uncorrected = 12 * 14 / 20 * (np.sum(average_ranks(DEMSAR) ** 2) - 4 * 5**2 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.005)
    assert found.chi_square > uncorrected
    assert found.chi_square == pytest.approx(stats.friedmanchisquare(*np.array(DEMSAR).T).statistic)
    assert found.f_value == pytest.approx(13 * found.chi_square / (14 * 3 - found.chi_square))
    assert found.f_p_value == pytest.approx(stats.f.sf(found.f_value, 3, 39))
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)
    assert critical_difference(4, 14, alpha=0.05) == pytest.approx(1.25, abs=0.005)


def test_full_agreement_and_nothing_but_ties() -> None:
    agreed = friedman_test([[0.9, 0.8, 0.7]] * 4)
    assert agreed.chi_square == pytest.approx(8)
    assert (agreed.f_value, agreed.f_p_value) == (inf, 0.0)
    tied = friedman_test([[0.5, 0.5, 0.5]] * 2)
    assert (tied.chi_square, tied.p_value, tied.f_p_value) == (0.0, 1.0, 1.0)


def test_too_small_tables_are_refused() -> None:
    for scores in ([[0.1, 0.2, 0.3]], [[0.1, 0.2], [0.3, 0.4]]):
        with pytest.raises(ValueError, match="at least two boards and three methods"):
            friedman_test(scores)
    with pytest.raises(ValueError, match="at least two methods"):
        nemenyi_quantile(1)
