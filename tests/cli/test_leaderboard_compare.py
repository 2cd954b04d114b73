"""`lightning-kd leaderboard compare`."""

from __future__ import annotations

from pathlib import Path

import pytest
from kd_bench.entries import entry_path
from kd_bench.results import RunSet
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.storage import write_model
from small_boards import run_set

from lightning_kd.cli.main import main

KD, DKD = [0.90, 0.92, 0.91], [0.93, 0.951, 0.942]


def write(leaderboards: Path, *run_sets: RunSet) -> None:
    for one in run_sets:
        path = leaderboards / "results" / entry_path(one) / RUN_SET_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_model(path, one)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "leaderboards", run_set("plain", [0.85, 0.86, 0.85]), run_set("KD", KD), run_set("DKD", DKD))
    return tmp_path


@pytest.mark.parametrize("width", [80, 100])
def test_the_comparison_fits_and_says_what_it_found(
    width: int, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["leaderboard", "compare", "dkd", "KD"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    flat = " ".join(text.split())
    assert "DKD is above KD: 3.10 ± 0.25 points of accuracy over 3 shared seeds." in flat
    for part in ("+3.10 ± 0.25", "cannot go below 0.25 with 3 seeds", "gap closed", "1.00 times", "10 different"):
        assert part in flat, part


def test_entries_and_another_folder_can_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = (folder / "leaderboards").rename(folder / "elsewhere")
    paths = [f"digits-v1/{name}/mini_cnn4__mini_resnet14" for name in ("KD", "plain")]
    assert main(["leaderboard", "compare", *paths, "--results", str(moved)]) == 0
    assert "KD is above plain" in capsys.readouterr().out


def test_runs_are_read_where_there_are_no_leaderboards(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "leaderboards").rename(folder / "runs")
    assert main(["leaderboard", "compare", "KD", "DKD", "--protocol", "digits-v1", "--pair", "mini_cnn4"]) == 0
    assert "DKD is above KD" in capsys.readouterr().out


def test_many_boards_have_a_line_each(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for number in range(4):
        student = f"student_{number}"
        write(folder / "leaderboards", run_set("KD", KD, student=student), run_set("DKD", DKD, student=student))
    assert main(["leaderboard", "compare", "DKD", "KD"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("▲ +3.10 ± 0.25") == 5
    assert "DKD has the higher accuracy on 5, KD on 0" in " ".join(text.split())


@pytest.mark.parametrize("count", [1, 5])
def test_long_names_are_folded_and_nothing_else(
    count: int, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = "GuidedSelfDistillation", "AttentionTransfer"
    students = [f"student_{number}" for number in range(count)]
    for student in students:
        write(folder / "leaderboards", *(run_set(name, KD, student=student) for name in names))
    assert main(["leaderboard", "compare", *names]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    rows = [line.strip() for line in text.splitlines() if line.startswith("│")]
    assert all(line.endswith("│") for line in rows)
    assert text.count("+0.00 ± 0.00") >= count
    assert all(student in text for student in students)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["KD", "DKKD"], "Did you mean 'DKD'"),
        (["KD", "kd"], "same method"),
        (["KD", "DKD", "--protocol", "digts-v1"], "Did you mean 'digits-v1'"),
        (["KD", "DKD", "--results", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "compare", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
