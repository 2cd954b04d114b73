from __future__ import annotations

import pytest
from kd_bench.errors import UserError
from kd_bench.leaderboard.comparison import compare, compare_entries
from kd_bench.statistics import bootstrap_interval, mean_interval, paired_test
from small_boards import entry, run_set

KD, DKD = [0.90, 0.92, 0.91, 0.93], [0.91, 0.94, 0.92, 0.95]


def test_a_board_is_compared_seed_by_seed() -> None:
    plain = run_set("plain", [0.89])
    found = compare_entries(
        run_set("DKD", DKD, seconds=15, ece=0.03, memory=600),
        run_set("KD", KD, seconds=10, ece=0.02, memory=500),
        plain,
    )
    assert found.test == paired_test(DKD, KD)
    assert found.bootstrap == bootstrap_interval([one - other for one, other in zip(DKD, KD, strict=True)])
    assert (found.first, found.second) == (mean_interval(DKD), mean_interval(KD))
    assert found.scores["ece"].test.difference == pytest.approx(0.01)
    assert (found.scores["ece"].first, found.scores["ece"].second) == pytest.approx((0.03, 0.02))
    assert found.scores["nll"].test.difference == pytest.approx(-paired_test(DKD, KD).difference)
    assert (found.time_ratio, found.memory_ratio) == pytest.approx((1.5, 1.2))
    assert found.first_gap == pytest.approx((0.93 - 0.89) / (0.99 - 0.89))
    assert found.second_gap == pytest.approx((0.915 - 0.89) / (0.99 - 0.89))
    assert found.cautions == ()


def test_only_shared_seeds_are_paired() -> None:
    found = compare_entries(run_set("A", [0.9, 0.8, 0.7]), run_set("B", [0.7, 0.75, 0.6], seeds=(1, 2, 3)))
    assert found.seeds == (1, 2)
    assert found.test == paired_test([0.8, 0.7], [0.7, 0.75])
    alone = compare_entries(run_set("A", [0.9, 0.8]), run_set("B", [0.7], seeds=(1,)))
    assert (alone.test, alone.bootstrap, alone.scores) == (None, None, {})
    assert alone.first_gap is None


def test_swapping_turns_every_difference_around() -> None:
    one, other = run_set("A", KD, ece=0.1), run_set("B", DKD, ece=0.2)
    found, turned = compare_entries(one, other), compare_entries(other, one)
    assert found.test is not None
    assert turned.test is not None
    assert found.test.difference == pytest.approx(-turned.test.difference)
    assert found.test.p_value == turned.test.p_value
    for key, score in found.scores.items():
        assert score.test.difference == pytest.approx(-turned.scores[key].test.difference)


def test_time_and_memory_need_the_same_machine_and_detectors_have_no_calibration() -> None:
    found = compare_entries(run_set("A", KD), run_set("B", DKD, cpu="Another CPU", memory=None))
    assert (found.time_ratio, found.memory_ratio) == (None, None)
    detectors = compare_entries(run_set("A", KD, detection=True), run_set("B", DKD, detection=True))
    assert detectors.task == "detection"
    assert "ece" not in detectors.scores
    assert "ap_small" not in detectors.scores
    assert detectors.scores["ap_50"].test.difference == pytest.approx(-0.015)


def test_cautions_say_what_stands_in_the_way() -> None:
    other = run_set("B", DKD, track="tuned", extra_data=True)
    teacher = other.teacher.model_copy(update={"weights_sha256": "f" * 64})
    found = compare_entries(entry("A", KD, "challenge", "withdrawal"), other.model_copy(update={"teacher": teacher}))
    text = " ".join(found.cautions)
    for part in ("different weights", "B used data beyond", "B was tuned", "A was withdrawn", "A is challenged"):
        assert part in text


def test_boards_are_taken_together_each_once() -> None:
    entries = [
        entry(name, [score + gain, score + 2 * gain], student=student)
        for student, gain in (("s1", 0.01), ("s2", 0.02), ("s3", -0.01))
        for name, score in (("A", 0.9), ("B", 0.9 - gain))
    ]
    entries.append(entry("A", [0.5, 0.5], student="only A"[:4]))
    found = compare(entries, "A", "B")
    assert [board.board.student for board in found.boards] == ["s1", "s2", "s3"]
    overall = found.overall["classification"]
    assert (overall.boards, overall.ahead, overall.behind) == (3, 2, 1)
    assert overall.difference.mean == pytest.approx((0.01 + 0.02 - 0.01) / 3)
    # of eight sign patterns of 1, 2, -1 only 0, 2, 4 occur: 2 or more in six
    assert overall.sign_flip_p == pytest.approx(6 / 8)
    assert overall.sign_p == pytest.approx(1.0)
    assert compare(entries, "A", "B", pair="s1").overall == {}


def test_classifiers_and_detectors_are_not_averaged() -> None:
    entries = [
        entry(name, [0.5, 0.6], student=f"s{number}", detection=number > 1)
        for number in range(4)
        for name in ("A", "B")
    ]
    found = compare(entries, "A", "B")
    assert {task: one.boards for task, one in found.overall.items()} == {"classification": 2, "detection": 2}


def test_errors_say_what_to_do() -> None:
    entries = [entry("A", KD, student="s1"), entry("B", KD, student="s2"), entry("C", KD, student="s1")]
    with pytest.raises(UserError, match=r"no board has both A and B.*s1.*s2.*bench run"):
        compare(entries, "A", "B")
    with pytest.raises(UserError, match="the same method"):
        compare(entries, "A", "a")
    with pytest.raises(UserError, match="unknown method 'D'"):
        compare(entries, "A", "D")
    with pytest.raises(UserError, match="across boards"):
        compare_entries(entries[0], entries[1])
