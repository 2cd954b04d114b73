from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kd_bench.leaderboard.ranking import rank_board, rows_above
from kd_bench.results import RunSet
from kd_bench.statistics import holm
from many_results import many_entries
from scipy import stats
from small_boards import entry, run_set

NOISE = [(0.001, -0.002, 0.001), (-0.001, 0.0, 0.001), (0.0, 0.002, -0.002), (0.002, -0.001, -0.001)]


def board(*means: float) -> list[RunSet]:
    return [run_set(f"M{place}", [mean + step for step in NOISE[place % 4]]) for place, mean in enumerate(means)]


def test_three_levels_become_three_groups_with_ranges_of_places() -> None:
    found = rank_board(board(0.95, 0.9505, 0.9, 0.9005, 0.901, 0.8))
    assert [(row.name, row.low, row.high, row.group) for row in found] == [
        ("M1", 1, 2, "a"),
        ("M0", 1, 2, "a"),
        ("M4", 3, 5, "b"),
        ("M3", 3, 5, "b"),
        ("M2", 3, 5, "b"),
        ("M5", 6, 6, "c"),
    ]
    assert [row.rank for row in found[4:]] == ["3\N{EN DASH}5", "6"]
    assert [row.leading for row in found] == [True, True, False, False, False, False]
    assert [row.separated for row in found] == [False, False, True, True, True, True]


@pytest.mark.parametrize(("difference", "separated"), [(0.02, False), (0.03, True)])
def test_two_rows_are_decided_by_the_ordinary_paired_t_test(difference: float, separated: bool) -> None:
    one, other = run_set("A", [0.9] * 3), run_set("B", list(0.9 - difference - np.array([0.01, -0.004, -0.006])))
    expected = stats.ttest_rel(one.headlines(), other.headlines()).pvalue
    assert (expected < 0.05) == separated
    found = rank_board([one, other])
    assert found[1].p_value == pytest.approx(expected)
    assert [row.rank for row in found] == (["1", "2"] if separated else ["1\N{EN DASH}2"] * 2)


def test_differences_are_to_the_best_row_with_simultaneous_intervals() -> None:
    rows = board(0.95, 0.9, 0.93)
    found = {row.name: row for row in rank_board(rows)}
    assert (found["M0"].difference, found["M0"].half_width, found["M0"].p_value) == (None, None, None)
    test = stats.ttest_rel(rows[1].headlines(), rows[0].headlines())
    interval = test.confidence_interval(1 - 0.05 / 3)
    assert found["M1"].difference == pytest.approx(-0.05)
    assert found["M1"].half_width == pytest.approx((interval.high - interval.low) / 2)
    pairs = [(1, 0), (2, 0), (1, 2)]
    alone = [stats.ttest_rel(rows[one].headlines(), rows[other].headlines()).pvalue for one, other in pairs]
    assert [found["M1"].p_value, found["M2"].p_value] == pytest.approx(holm(alone)[:2])
    assert found["M1"].path == "digits-v1/M1/mini_cnn4__mini_resnet14"


def test_withdrawn_entries_are_not_ranked() -> None:
    entries = [entry("A", [0.9, 0.91]), entry("B", [0.99, 0.98], "withdrawal"), entry("C", [0.8, 0.82], "challenge")]
    assert [row.name for row in rank_board(entries)] == ["A", "C"]
    assert rank_board(entries[1:2]) == []
    assert rank_board([]) == []


def test_rows_that_cannot_be_compared_have_every_place_open() -> None:
    alone = rank_board([run_set("A", [0.9])])
    assert (alone[0].rank, alone[0].group) == ("1", "a")
    found = rank_board([run_set("A", [0.9]), run_set("B", [0.5]), run_set("C", [0.4, 0.41], seeds=(7, 8))])
    assert [(row.low, row.high) for row in found] == [(1, 3)] * 3
    assert [row.p_value for row in found] == [None] * 3


def test_rows_above_each_other_in_a_circle_do_not_hang() -> None:
    def turn(name: str, low: tuple[int, int], high: tuple[int, int]) -> RunSet:
        scores = dict.fromkeys(low, 0.5) | dict.fromkeys(high, 0.9)
        return run_set(name, [scores[seed] for seed in sorted(scores)], seeds=sorted(scores))

    rows = [turn("A", (4, 5), (0, 1)), turn("B", (0, 1), (2, 3)), turn("C", (2, 3), (4, 5))]
    found = rank_board(rows)
    assert [row.name for row in found] == ["A", "B", "C"]
    assert {row.group for row in found} == {"a"}
    assert [row.rank for row in found] == ["2", "2", "2"]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.integers(300, 360).map(lambda n: n / 360), min_size=1, max_size=5), min_size=1, max_size=9),
    st.randoms(),
)
def test_ranges_hold_together_for_any_board(scores: list[list[float]], shuffled: random.Random) -> None:
    rows = [run_set(f"M{place}", values) for place, values in enumerate(scores)]
    found = rank_board(rows)
    assert [row.mean for row in found] == sorted((row.mean for row in found), reverse=True)
    for row in found:
        assert 1 <= row.low <= row.high <= len(rows)
        assert row.leading == (row.low == 1) == (row.group == "a")
        assert row.p_value is None or 0 <= row.p_value <= 1
        assert row.low == 1 + len(rows_above(rows, row.name))
    moved = list(rows)
    shuffled.shuffle(moved)
    assert [(row.name, row.rank, row.group) for row in rank_board(moved)] == [
        (row.name, row.rank, row.group) for row in found
    ]


def test_rows_above_a_row_that_is_not_there() -> None:
    assert rows_above(board(0.95, 0.9), "plain") == []
    assert rows_above([], "plain") == []


def test_a_large_board_is_ranked_completely() -> None:
    entries = many_entries(100)
    found = rank_board(entries)
    assert {row.path for row in found} == {one.path for one in entries if not one.withdrawn}
    assert found[0].leading
    assert found[-1].high == len(found)
