from __future__ import annotations

from math import inf

import numpy as np
import pytest
from kd_bench.statistics import VariancePrior, variance_prior
from kd_bench.statistics.moderation import FEWEST, NOTHING


@pytest.mark.parametrize(("typical", "prior_degrees", "degrees"), [(2.0, 4.0, 2), (1e-5, 12.0, 4), (0.5, 2.5, 9)])
def test_what_variances_have_in_common_is_found_again(typical: float, prior_degrees: float, degrees: int) -> None:
    random = np.random.default_rng(0)
    true = typical * prior_degrees / random.chisquare(prior_degrees, size=50_000)
    measured = true * random.chisquare(degrees, size=50_000) / degrees
    found = variance_prior(measured, np.full(50_000, degrees))
    assert found.variance == pytest.approx(typical, rel=0.03)
    assert found.degrees == pytest.approx(prior_degrees, rel=0.06)


def test_variances_that_differ_by_chance_only_are_one_variance() -> None:
    random = np.random.default_rng(0)
    measured = 3.0 * random.chisquare(2, size=2_000) / 2
    found = variance_prior(measured, np.full(2_000, 2.0))
    assert found.degrees > 30
    assert found.variance == pytest.approx(3.0, rel=0.1)
    equal = variance_prior(np.full(20, 0.7), np.full(20, 4.0))
    assert equal.degrees == inf


def test_few_variances_say_nothing_of_each_other() -> None:
    assert variance_prior(np.arange(1.0, FEWEST), np.full(FEWEST - 1, 2.0)) is NOTHING
    assert variance_prior(np.zeros(50), np.full(50, 2.0)) is NOTHING
    measured, degrees = np.array([1.0, 4.0]), np.array([2.0, 3.0])
    kept, same = NOTHING.moderate(measured, degrees)
    assert kept.tolist() == measured.tolist()
    assert same.tolist() == degrees.tolist()


def test_moderation_by_hand() -> None:
    # (4 * 2 + 2 * 5) / 6 = 3
    variances, degrees = VariancePrior(2.0, 4.0).moderate(np.array([5.0]), np.array([2.0]))
    assert (variances[0], degrees[0]) == (3.0, 6.0)
    variances, degrees = VariancePrior(2.0, inf).moderate(np.array([5.0]), np.array([2.0]))
    assert (variances[0], degrees[0]) == (2.0, inf)


def test_a_variance_of_zero_is_an_accident() -> None:
    random = np.random.default_rng(0)
    measured = random.chisquare(4, size=100) / 4
    found = variance_prior([*measured, 0.0], np.full(101, 4.0))
    variances, _ = found.moderate(np.array([0.0]), np.array([4.0]))
    assert 0 < variances[0] < 1
