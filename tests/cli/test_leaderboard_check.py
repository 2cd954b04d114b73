"""``lightning-kd leaderboard check``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hostile.edits import edit
from hostile.valid import committed_entry

from lightning_kd.cli.main import main


def run(*arguments: object) -> int:
    return main(["leaderboard", "check", *map(str, arguments)])


def test_a_valid_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = committed_entry(tmp_path)
    assert run(entry) == 0
    out = capsys.readouterr().out
    assert f"{entry}: ok" in out
    assert out.endswith("Checked 1 entry: nothing to refuse.\n")


def test_a_refused_entry_with_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry, report = committed_entry(tmp_path), tmp_path / "report.json"
    edit(entry, lambda run_set: run_set.update(contact="\x1b[31mme", runs=run_set["runs"][:2]))
    assert run(entry.parents[3], "--json", report) == 1
    out = capsys.readouterr().out
    assert f"{entry}: refused" in out
    assert "refused by the rule seeds:" in out
    assert "at least 3 seeds" in out
    assert "\x1b" not in out
    assert all(len(line) <= 100 or str(tmp_path) in line for line in out.splitlines())
    content = json.loads(report.read_text())
    assert content["ok"] is False
    assert {problem["rule"] for problem in content["problems"]} >= {"seeds", "text"}
    assert report.read_text().isascii()


def test_a_notice_is_no_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = committed_entry(tmp_path)
    edit(entry, lambda run_set: run_set.update(extra_data=True))
    assert run(entry) == 0
    out = capsys.readouterr().out
    assert f"{entry}: ok, but look at" in out
    assert "notice of the rule extra-data:" in out
    assert "1 for a maintainer to confirm" in out


def test_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nothing") == 1
    assert "cannot be looked at" in capsys.readouterr().out


def test_a_base_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(committed_entry(tmp_path), "--base", tmp_path / "nothing") == 2
    assert "not a folder" in capsys.readouterr().err
