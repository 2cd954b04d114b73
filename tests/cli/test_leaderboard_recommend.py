"""`lightning-kd leaderboard recommend`."""

from __future__ import annotations

from pathlib import Path

import pytest
from kd_bench.entries import entry_path
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.storage import write_model
from small_boards import run_set

from lightning_kd.cli.main import main

LEADERBOARDS = Path(__file__).parents[2] / "leaderboards"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        run_set("plain", [0.85, 0.86, 0.852], seconds=10, ece=0.01),
        run_set("Cheap", [0.95, 0.953, 0.947], seconds=12, ece=0.03),
        run_set("Dear", [0.952, 0.953, 0.95], seconds=30),
        run_set("Worse", [0.90, 0.902, 0.901], seconds=11, family="features"),
    ]
    for one in rows:
        path = tmp_path / "leaderboards" / "results" / entry_path(one) / RUN_SET_FILE
        path.parent.mkdir(parents=True)
        write_model(path, one)
    return tmp_path


@pytest.mark.parametrize("width", [80, 100])
def test_the_recommendation_fits_and_brings_its_evidence(
    width: int, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["leaderboard", "recommend", "--student", "mini_cnn4", "--protocol", "digits-v1"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    flat = " ".join(text.split())
    assert flat.startswith("Try Cheap first, then Dear. From results of the student mini_cnn4 under digits-v1.")
    for part in ("Only 3 seeds", "1.20", "3.00 (1.00)", "1\N{EN DASH}2", "less calibrated"):
        assert part in flat, part


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("arguments", [[], ["--protocol", "digits-detection-v1"], ["--budget", "1.5"]])
def test_the_published_results_fit(
    arguments: list[str], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["leaderboard", "recommend", "--results", str(LEADERBOARDS), *arguments]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Try ")
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_a_budget_is_kept_and_an_unknown_student_is_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "recommend", "--student", "mini_cnn5", "--budget", "1.15"]) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert "Try Worse first." in flat
    assert "none of the student mini_cnn5 (did you mean mini_cnn4?)" in flat
    assert "Over the budget of 1.15: 2 methods, the cheapest Cheap with 1.20." in flat


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "1.01"], "the cheapest of 3 is Worse with 1.10"),
        (["--budget", "-1"], "budget"),
        (["--protocol", "digts-v1"], "Did you mean 'digits-v1'"),
        (["--family", "logit"], "Did you mean 'logits'"),
        (["--results", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "recommend", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
