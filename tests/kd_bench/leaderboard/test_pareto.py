from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.leaderboard.pareto import calibration_front, pareto_front, training_cost_front
from small_boards import entry, run_set

ROWS = [
    run_set("plain", [0.90, 0.90], seconds=10, ece=0.05),
    run_set("KD", [0.92, 0.94], seconds=15, ece=0.02),
    run_set("Slow", [0.92, 0.92], seconds=40, ece=0.01),
    run_set("Best", [0.95, 0.95], seconds=30, ece=0.03),
    run_set("Elsewhere", [0.99, 0.99], seconds=1, ece=0.04, cpu="Another CPU"),
]


def test_time_counts_on_the_plain_students_machine_only() -> None:
    found = training_cost_front(ROWS)
    assert [(point.name, point.cost) for point in found.front] == [("plain", 1.0), ("KD", 1.5), ("Best", 3.0)]
    assert [point.name for point in found.points] == ["plain", "KD", "Best", "Slow"]
    assert found.left_out == {"Elsewhere": "it ran on another machine"}
    assert "plain student" in found.cost


def test_without_a_plain_row_there_is_no_time() -> None:
    found = training_cost_front(ROWS[1:3])
    assert found.points == found.front == ()
    assert list(found.left_out) == ["KD", "Slow"]


def test_calibration_counts_on_any_machine() -> None:
    found = calibration_front(ROWS)
    assert [point.name for point in found.front] == ["Slow", "KD", "Best", "Elsewhere"]
    assert [point.cost for point in found.front] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert found.points[0].headline == pytest.approx(0.92)


def test_detectors_have_no_calibration() -> None:
    found = calibration_front([run_set("plain", [0.4], detection=True)])
    assert found.points == ()
    assert found.left_out == {"plain": "detectors have no calibration error"}


def test_withdrawn_entries_are_left_out() -> None:
    found = calibration_front([entry("A", [0.9], ece=0.2), entry("B", [0.99], "withdrawal", ece=0.01)])
    assert [point.name for point in found.points] == ["A"]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    expected = [
        not any(other != point and other[0] >= point[0] and other[1] <= point[1] for other in points)
        for point in points
    ]
    assert pareto_front([(float(one), float(other)) for one, other in points]) == expected
