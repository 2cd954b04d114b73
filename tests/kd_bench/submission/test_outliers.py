"""What is unusual about an entry, on boards of made-up rows and on the committed ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kd_bench.corrections import Correction
from kd_bench.entries import Entry, load_entries
from kd_bench.leaderboard.boards import group_boards
from kd_bench.predictions import Predictions, read_predictions, write_predictions
from kd_bench.results import Best, Run, RunSet, Scores
from kd_bench.submission.outliers import unusual
from kd_bench.submission.seed_distances import seed_distances
from synthetic_results import write_run_set

COMMITTED = Path(__file__).parents[3] / "leaderboards"
NAMES = ("plain", "KD", "DKD", "PLD", "FitNet", "AttentionTransfer", "CRD", "RKD", "PKT", "SP", "VID", "Mine")


@pytest.fixture
def board(tmp_path: Path) -> list[Entry]:
    """Twelve rows of one kind, without anything unusual about ``Mine``."""
    for place, name in enumerate(NAMES):
        margin = 3.3 if name == "Mine" else 3.2 + 0.03 * place
        write_run_set(tmp_path / "results", name, "logits" if place else None, margin, 2.0)
    return load_entries(tmp_path)


def mine(board: list[Entry]) -> Entry:
    return next(entry for entry in board if entry.run_set.method.name == "Mine")


def rules(board: list[Entry], change: Callable[[RunSet], RunSet] = lambda run_set: run_set) -> list[str]:
    entry = mine(board)
    changed = Entry(change(entry.run_set), entry.folder)
    return [flag.rule for flag in unusual(changed, board)]


def with_runs(run_set: RunSet, change: Callable[[Run], dict[str, Any]]) -> RunSet:
    return run_set.model_copy(update={"runs": tuple(run.model_copy(update=change(run)) for run in run_set.runs)})


def with_scores(run_set: RunSet, change: Callable[[int, Scores], dict[str, float]]) -> RunSet:
    def changed(run: Run) -> dict[str, Any]:
        assert isinstance(run.last, Scores)
        return {"last": run.last.model_copy(update=change(run.seed, run.last))}

    return with_runs(run_set, changed)


def test_an_ordinary_row_is_not_flagged(board: list[Entry]) -> None:
    assert rules(board) == []


def test_the_best_row_is_looked_at_twice(board: list[Entry]) -> None:
    better = unusual(Entry(with_scores(mine(board).run_set, lambda *_: {"accuracy": 0.98})), board)
    assert "beats-everything" in [flag.rule for flag in better]
    message = next(flag.message for flag in better if flag.rule == "beats-everything")
    assert "beats everything on the board, all 11 rows: look twice" in message


def test_a_tie_with_the_best_beats_nothing(board: list[Entry]) -> None:
    best = max(
        (entry for entry in board if entry.run_set.method.name != "Mine"),
        key=lambda entry: float(np.mean(entry.run_set.headlines())),
    )
    same = dict(zip(best.run_set.seeds, best.run_set.headlines(), strict=True))
    found = rules(board, lambda run_set: with_scores(run_set, lambda seed, _: {"accuracy": same[seed]}))
    assert "beats-everything" not in found


def test_few_rows_make_no_board(board: list[Entry]) -> None:
    small = [entry for entry in board if entry.run_set.method.name in ("plain", "KD", "Mine")]
    wild = with_scores(mine(board).run_set, lambda seed, _: {"accuracy": 0.98 - 0.1 * seed, "ece": 0.9})
    assert [flag.rule for flag in unusual(Entry(wild), small)] == []


def test_withdrawn_rows_do_not_count(board: list[Entry]) -> None:
    withdrawn = Correction(
        id="2026-01-01-x", date="2026-01-01", entry=mine(board).path, kind="withdrawal", reason="x", by="x"
    )
    others = [Entry(entry.run_set, corrections=(withdrawn,)) for entry in board]
    wild = Entry(with_scores(mine(board).run_set, lambda *_: {"ece": 0.9}))
    assert unusual(wild, board) != []
    assert unusual(wild, others) == []


def test_above_the_teacher(board: list[Entry]) -> None:
    teacher = mine(board).run_set.teacher.headline
    assert "above-teacher" in rules(board, lambda one: with_scores(one, lambda *_: {"accuracy": teacher + 0.001}))
    assert "above-teacher" not in rules(board, lambda one: with_scores(one, lambda *_: {"accuracy": teacher}))


def test_seeds_that_were_left_out(board: list[Entry]) -> None:
    assert rules(board, lambda one: one.model_copy(update={"runs": one.runs[:3]})) == ["fewer-seeds"]


def test_a_last_epoch_that_is_always_the_best(board: list[Entry]) -> None:
    def chosen(run: Run) -> dict[str, Any]:
        return {"best": Best(accuracy=run.last.headline, epoch=1)}

    assert rules(board, lambda one: with_runs(one, chosen)) == ["best-is-last"]


def test_a_best_epoch_far_above_the_last(board: list[Entry]) -> None:
    def far(run: Run) -> dict[str, Any]:
        return {"best": Best(accuracy=run.last.headline + 0.02, epoch=1)}

    assert rules(board, lambda one: with_runs(one, far)) == ["best-last-gap"]


@pytest.mark.parametrize(("spread", "word"), [(0.0, "smaller"), (0.05, "larger")])
def test_a_spread_unlike_the_boards(spread: float, word: str, board: list[Entry]) -> None:
    middle = float(np.mean(mine(board).run_set.headlines()))
    changed = with_scores(mine(board).run_set, lambda seed, _: {"accuracy": middle + spread * (seed - 2)})
    flags = [flag for flag in unusual(Entry(changed), board) if flag.rule == "spread"]
    assert len(flags) == 1
    assert word in flags[0].message


def test_calibration_and_agreement(board: list[Entry]) -> None:
    assert rules(board, lambda one: with_scores(one, lambda *_: {"ece": 0.3})) == ["ece"]
    assert rules(board, lambda one: with_scores(one, lambda *_: {"agreement": 0.5})) == ["agreement"]
    assert rules(board, lambda one: with_scores(one, lambda *_: {"agreement": 1.0})) == ["agreement"]


def test_a_curve_that_ends_elsewhere(board: list[Entry]) -> None:
    def other(run: Run) -> dict[str, Any]:
        return {"curve": run.curve.model_copy(update={"validation_accuracy": (0.5, 0.6)})}

    assert rules(board, lambda one: with_runs(one, other)) == ["curve"]


def test_a_distillation_faster_than_the_plain_student(board: list[Entry]) -> None:
    def seconds(value: float) -> Callable[[RunSet], RunSet]:
        return lambda one: with_runs(one, lambda _: {"seconds": value})

    assert rules(board, seconds(6.0)) == ["time"]
    assert rules(board, seconds(8.0)) == []

    def elsewhere(one: RunSet) -> RunSet:
        other = one.environment.model_copy(update={"cpu": "Faster CPU"})
        return seconds(1.0)(one).model_copy(update={"environment": other})

    assert rules(board, elsewhere) == [], "times of different machines are not compared"


def test_more_parameters_than_both_networks(board: list[Entry]) -> None:
    most = 180_000 + 5_000
    assert rules(board, lambda one: with_runs(one, lambda _: {"extra_parameters": most + 1})) == ["extra-parameters"]
    assert rules(board, lambda one: with_runs(one, lambda _: {"extra_parameters": most})) == []


def disturbed(original: Predictions, noise: float) -> Predictions:
    random = np.random.default_rng(0)
    logs = original.label_log_probability + noise * random.normal(size=original.label.shape)
    return Predictions(
        predicted=original.predicted,
        label=original.label,
        teacher_predicted=original.teacher_predicted,
        confidence=original.confidence,
        label_log_probability=np.minimum(logs, 0).astype(np.float32),
    )


@pytest.mark.parametrize(("noise", "expected"), [(0.0, ["alike-seeds"]), (0.01, ["alike-seeds"]), (5.0, [])])
def test_a_seed_that_is_another_in_disguise(noise: float, expected: list[str], board: list[Entry]) -> None:
    entry = mine(board)
    assert entry.folder is not None
    original = read_predictions(entry.folder / "seed0.npz")
    write_predictions(entry.folder / "seed1.npz", disturbed(original, noise))
    assert rules(board) == expected


def test_distances_do_not_depend_on_how_sharp_a_method_is(board: list[Entry]) -> None:
    entry = mine(board)
    assert entry.folder is not None
    before = seed_distances(entry)
    for seed in entry.run_set.seeds:
        file = entry.folder / f"seed{seed}.npz"
        made = read_predictions(file)
        flat = np.float32(0.01) * made.label_log_probability
        write_predictions(file, Predictions(made.predicted, made.label, made.teacher_predicted, made.confidence, flat))
    assert seed_distances(entry) == pytest.approx(before, rel=1e-4)


def test_missing_predictions_are_a_matter_for_the_check(board: list[Entry]) -> None:
    entry = mine(board)
    assert entry.folder is not None
    (entry.folder / "seed1.npz").unlink()
    assert rules(board) == []
    assert seed_distances(Entry(entry.run_set)) == {}


@cache
def committed_flags() -> dict[tuple[str, str], list[str]]:
    found = {}
    for board in group_boards(load_entries(COMMITTED)).values():
        for entry in board:
            name = entry.run_set.protocol.id, entry.run_set.method.name
            found[name] = [flag.rule for flag in unusual(entry, board)]
    return found


@pytest.mark.parametrize("protocol", ["digits-v1", "fashion-v1"])
def test_few_of_the_committed_rows_are_unusual_and_those_that_are_known_to_be(protocol: str) -> None:
    rows = {name: flags for (where, name), flags in committed_flags().items() if where == protocol}
    assert len(rows) >= 27
    assert sum(bool(flags) for flags in rows.values()) <= 0.25 * len(rows)
    # its students are trained against a flattened teacher, and are as flat
    assert "ece" in rows["WTTM"]
    assert sum("beats-everything" in flags for flags in rows.values()) == 1
    assert rows["plain"] == []
