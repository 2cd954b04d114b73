from __future__ import annotations

import random

import numpy as np
import pytest
from kd_bench.entries import Entry
from kd_bench.leaderboard.boards import BoardKey
from kd_bench.leaderboard.critical_difference import critical_difference_diagram
from kd_bench.statistics import critical_difference
from small_boards import entry


def boards(scores: dict[str, dict[str, float]]) -> list[Entry]:
    return [
        entry(name, [score, score], student=student) for student, row in scores.items() for name, score in row.items()
    ]


def key(student: str) -> BoardKey:
    return BoardKey("digits-v1", student, "mini_resnet14")


def test_average_ranks_and_the_critical_difference_by_hand() -> None:
    entries = boards(
        {
            "s1": {"A": 0.9, "B": 0.8, "C": 0.7},
            "s2": {"A": 0.6, "B": 0.6, "C": 0.5},
            "s3": {"A": 0.3, "B": 0.4, "C": 0.2},
        }
    )
    found = critical_difference_diagram(entries)
    assert found is not None
    # A: 1, 1.5, 2; B: 2, 1.5, 1; C: 3, 3, 3
    assert [(method.name, method.rank) for method in found.methods] == [("A", 1.5), ("B", 1.5), ("C", 3.0)]
    assert found.critical_difference == critical_difference(3, 3)
    assert found.boards == (key("s1"), key("s2"), key("s3"))
    assert found.bars == (("A", "B", "C"),)
    assert not found.separates
    assert found.left_out_methods == found.left_out_boards == {}


def test_enough_boards_separate_and_bars_join_what_lies_close() -> None:
    order = {"A": 0.9, "B": 0.8, "C": 0.7, "D": 0.6, "E": 0.5}
    found = critical_difference_diagram(boards({f"s{number:02d}": order for number in range(20)}))
    assert found is not None
    assert 1 < found.critical_difference < 2
    assert found.bars == (("A", "B"), ("B", "C"), ("C", "D"), ("D", "E"))
    assert found.separates
    assert found.friedman.p_value < 1e-9


def test_the_largest_complete_block_is_chosen_and_the_rest_is_named() -> None:
    common = {"A": 0.9, "B": 0.8, "C": 0.7}
    entries = boards(
        {
            "s1": {**common, "D": 0.6},
            "s2": {**common, "E": 0.6},
            "s3": common,
            "alone": {"X": 0.5, "Y": 0.4, "Z": 0.3, "A": 0.2},
        }
    )
    found = critical_difference_diagram(entries)
    assert found is not None
    assert found.boards == (key("s1"), key("s2"), key("s3"))
    assert {method.name for method in found.methods} == {"A", "B", "C"}
    assert found.left_out_methods == {"D": 2, "E": 2, "X": 3, "Y": 3, "Z": 3}
    assert found.left_out_boards == {key("alone"): 2}


def test_many_methods_on_two_boards_may_outweigh_few_on_three() -> None:
    many = dict.fromkeys("ABCDEFGHIJ", 0.9)
    found = critical_difference_diagram(boards({"s1": many, "s2": many, "s3": {"A": 0.9, "B": 0.8, "C": 0.7}}))
    assert found is not None
    assert found.boards == (key("s1"), key("s2"))
    assert len(found.methods) == 10
    assert found.left_out_boards == {key("s3"): 7}


def test_no_block_no_diagram() -> None:
    assert critical_difference_diagram([]) is None
    assert critical_difference_diagram(boards({"s1": {"A": 0.9, "B": 0.8, "C": 0.7}})) is None
    few = {"A": 0.9, "B": 0.8}
    assert critical_difference_diagram(boards({"s1": few, "s2": few})) is None


def test_withdrawn_entries_leave_their_place() -> None:
    entries = boards({f"s{number}": {"A": 0.9, "B": 0.8, "C": 0.7, "D": 0.6} for number in range(4)})
    gone = [
        entry("D", [0.6, 0.6], "withdrawal", student=one.run_set.student.name)
        for one in entries
        if one.run_set.method.name == "D"
    ]
    found = critical_difference_diagram([*(one for one in entries if one.run_set.method.name != "D"), *gone])
    assert found is not None
    assert [method.name for method in found.methods] == ["A", "B", "C"]
    assert found.left_out_methods == {}


def test_the_order_of_the_entries_does_not_matter() -> None:
    scores = np.random.default_rng(0).random((6, 8))
    entries = boards(
        {
            f"s{row}": {f"M{column}": scores[row, column] for column in range(8) if (row + column) % 7}
            for row in range(6)
        }
    )
    expected = critical_difference_diagram(entries)
    assert expected is not None
    for seed in range(5):
        random.Random(seed).shuffle(entries)
        assert critical_difference_diagram(entries) == expected
    assert sum(method.rank for method in expected.methods) == pytest.approx(
        len(expected.methods) * (len(expected.methods) + 1) / 2
    )
