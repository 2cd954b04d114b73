from __future__ import annotations

import random

from kd_bench.leaderboard.boards import BoardKey, board_key, group_boards, standing
from small_boards import entry, run_set


def test_boards_and_rows_are_in_order_whatever_the_input() -> None:
    entries = [
        entry(name, [0.9], protocol=protocol, student=student)
        for protocol in ("b-v1", "a-v1")
        for student in ("small", "large")
        for name in ("KD", "DKD", "plain")
    ]
    expected = group_boards(entries)
    assert list(expected) == sorted(expected)
    assert len(expected) == 4
    random.Random(0).shuffle(entries)
    found = group_boards(entries)
    assert list(found.items()) == list(expected.items())
    assert [one.run_set.method.name for one in found[BoardKey("a-v1", "large", "mini_resnet14")]] == [
        "DKD",
        "KD",
        "plain",
    ]


def test_entries_and_run_sets_have_the_same_key_and_label() -> None:
    one = entry("KD", [0.9])
    assert board_key(one) == board_key(one.run_set)
    assert board_key(one).label == "digits-v1: mini_resnet14 → mini_cnn4"


def test_what_was_withdrawn_does_not_count() -> None:
    kept, doubted, gone = entry("KD", [0.9]), entry("DKD", [0.9], "challenge"), entry("PKT", [0.9], "withdrawal")
    assert standing([kept, doubted, gone]) == [kept.run_set, doubted.run_set]
    assert standing([run_set("KD", [0.9])]) == [kept.run_set]
