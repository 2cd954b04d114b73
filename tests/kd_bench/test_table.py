from __future__ import annotations

import io
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.leaderboard.ranking import rank_board
from kd_bench.leaderboard.summary import summarize
from kd_bench.leaderboard.table import leaderboard_table
from kd_bench.results import RunSet
from kd_bench.statistics import paired_test
from rich.console import Console
from synthetic_results import write_results, write_run_set


def _render(run_sets: list[RunSet], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(leaderboard_table(run_sets))
    return capture.get()


def test_the_table_fits_a_hundred_columns_and_says_what_it_shows(tmp_path: Path) -> None:
    run_sets = write_results(tmp_path)
    text = _render(run_sets)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for run_set in run_sets:
        assert run_set.method.name in text
    flat = " ".join(text.split())
    for part in ("digits-v1", "a" * 12, "seeds: 5", "sorted by mean accuracy", "after the last epoch", "0.062", "Holm"):
        assert part in flat


@pytest.mark.parametrize("width", [60, 70, 80, 90])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_names(tmp_path: Path, width: int) -> None:
    run_sets = write_results(tmp_path)
    text = _render(run_sets, width)
    assert max(map(len, text.splitlines())) <= width
    assert all(run_set.method.name in text for run_set in run_sets)
    assert "…" not in text
    assert "Left out for want of width: p" in " ".join(text.split())


def test_ranks_are_those_of_the_board(tmp_path: Path) -> None:
    run_sets = write_results(tmp_path)
    lines = [[cell.strip() for cell in line.split("│")[1:3]] for line in _render(run_sets).splitlines() if "│" in line]
    expected = [[row.name, row.rank] for row in rank_board(run_sets)]
    assert len({rank for _, rank in expected}) > 1
    assert lines == expected


def test_rows_are_sorted_by_mean_accuracy(tmp_path: Path) -> None:
    rows = summarize(write_results(tmp_path), "KD")
    means = [row.headline.mean for row in rows]
    assert means == sorted(means, reverse=True)


def test_rows_carry_what_the_runs_say(tmp_path: Path) -> None:
    run_sets = {run_set.method.name: run_set for run_set in write_results(tmp_path)}
    rows = {row.name: row for row in summarize(list(run_sets.values()), "KD")}
    assert rows["KD"].against_reference is None
    assert rows["DKD"].against_reference == paired_test(run_sets["DKD"].headlines(), run_sets["KD"].headlines())
    assert rows["plain"].gap_closed == pytest.approx(0.0)
    assert rows["plain"].relative_time == 1.0
    assert rows["KD"].relative_time == pytest.approx(11.2 / 10.2)


def test_only_common_seeds_are_compared(tmp_path: Path) -> None:
    kd = write_run_set(tmp_path, "KD", "logits", seeds=(0, 1, 2))
    dkd = write_run_set(tmp_path, "DKD", "logits", margin=3.7, seeds=(1, 2, 3, 4))
    row = next(row for row in summarize([kd, dkd], "KD") if row.name == "DKD")
    assert row.against_reference == paired_test(dkd.headlines()[:2], kd.headlines()[1:])
    alone = write_run_set(tmp_path, "PLD", "logits", seeds=(2,))
    row = next(row for row in summarize([kd, alone], "KD") if row.name == "PLD")
    assert row.against_reference is None
    assert row.gap_closed is None
    assert row.relative_time is None


def test_several_protocols_become_sections(tmp_path: Path) -> None:
    run_sets = [*write_results(tmp_path), write_run_set(tmp_path, "KD", "logits", protocol="other-v1")]
    text = _render(run_sets)
    assert text.count("→ mini_cnn4") == 2
    assert "other-v1" in text
    assert max(map(len, text.splitlines())) <= 100


def test_long_names_of_models_are_folded(tmp_path: Path) -> None:
    plain = write_run_set(tmp_path, "KD", "logits")
    student = plain.student.model_copy(update={"name": "mmdet:fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco"})
    text = _render([plain, plain.model_copy(update={"student": student})])
    assert max(map(len, text.splitlines())) <= 100
    assert "AP75" in text or "ECE" in text
    letters = "".join(character for character in text if character not in " │\n")
    assert student.name in letters


def test_no_results_is_an_error() -> None:
    with pytest.raises(UserError, match="no results"):
        leaderboard_table([])
