"""Differences between claims and findings."""

from __future__ import annotations

import pytest
from kd_bench.verification.findings import Findings, SeedResult


def test_differences_are_found_minus_claimed() -> None:
    seeds = (SeedResult(0, 0.90, 0.91), SeedResult(1, 0.92, 0.90))
    assert [each.difference for each in seeds] == pytest.approx([0.01, -0.02])
    assert Findings(seeds, (), (), 0.0).mean_difference == pytest.approx(-0.005)


def test_no_mean_of_a_part_of_the_seeds() -> None:
    seeds = (SeedResult(0, 0.90, 0.91), SeedResult(1, 0.92, None))
    assert seeds[1].difference is None
    assert Findings(seeds, (), (), 0.0).mean_difference is None
    assert Findings((), (), (), 0.0).mean_difference is None


def test_problems_and_obstacles_do_not_hold() -> None:
    assert Findings((), (), ("a remark",), 0.0).hold
    assert not Findings((), ("a problem",), (), 0.0).hold
    assert not Findings((), (), (), 0.0, obstacles=("an obstacle",)).hold
