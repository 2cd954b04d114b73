"""The comment under a submission: complete, harmless and of bounded length."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from kd_bench.corrections import Correction
from kd_bench.entries import Entry, load_entries
from kd_bench.submission.check import CheckReport
from kd_bench.submission.comment import MAX_CHARACTERS, submission_comment, write_comment
from kd_bench.submission.markdown import code, code_block, plain_text
from kd_bench.submission.problem import Problem
from synthetic_results import write_results, write_run_set

MINE = "digits-v1/Mine/mini_cnn4__mini_resnet14"
EVIL = "@owner <img src=x> [a](b) ![c](d) https://e.org www.e.org #12 GH-12 `x` | & \\ $x$ \x1b[31m \u202e ::error::"


def _is_harmless() -> Callable[[str], bool]:
    path = Path(__file__).parents[3] / ".github" / "post_comment.py"
    spec = importlib.util.spec_from_file_location("post_comment", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    harmless: Callable[[str], bool] = module.is_harmless
    return harmless


is_harmless = _is_harmless()


@pytest.fixture
def leaderboards(tmp_path: Path) -> Path:
    write_results(tmp_path / "results", seeds=(0, 1, 2))
    write_run_set(tmp_path / "results", "Mine", "logits", 4.5, 2.0, 20.0, seeds=(0, 1, 2))
    return tmp_path


@pytest.fixture
def entries(leaderboards: Path) -> list[Entry]:
    return load_entries(leaderboards)


def report(problems: int = 0, notices: int = 0, text: str = "is not right") -> CheckReport:
    return CheckReport(
        (f"leaderboards/results/{MINE}",),
        tuple(Problem(f"results/{number}", "rule", text) for number in range(problems)),
        tuple(Problem(f"results/{number}", "notice", text) for number in range(notices)),
    )


def cells(comment: str, path: str = MINE) -> dict[str, str]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in comment.splitlines() if line[:1] == "|"]
    (row,) = [line for line in lines if line[0] == f"`{path}`"]
    return dict(zip(lines[0], row, strict=True))


def test_a_row_is_compared_with_plain_and_kd(entries: list[Entry]) -> None:
    comment = submission_comment(report(), entries, [MINE])
    row = cells(comment)
    assert list(row)[:2] == ["entry", "accuracy, %"]
    assert {"against plain", "against KD", "ECE, %", "time / plain", "rank", "badge"} <= set(row)
    run_set = next(entry.run_set for entry in entries if entry.path == MINE)
    assert row["accuracy, %"].startswith(f"{100 * sum(run_set.headlines()) / 3:.2f} ± ")
    plain = next(entry.run_set for entry in entries if entry.run_set.method.name == "plain")
    difference = (sum(run_set.headlines()) - sum(plain.headlines())) / 3
    assert row["against plain"] == f"{100 * difference:+.2f}"
    assert row["time / plain"] == "1.99"
    assert row["badge"] == "predictions checked"
    assert row["rank"].endswith("of 7, a")
    assert "nothing refused, 1 new or changed entry" in comment
    assert "**beats-everything**" in comment
    assert is_harmless(comment)


def test_baselines_are_not_compared_with_themselves(entries: list[Entry]) -> None:
    plain = MINE.replace("/Mine/", "/plain/")
    row = cells(submission_comment(report(), entries, [plain]), plain)
    assert row["against plain"] == "-"
    assert row["against KD"] != "-"


def test_a_refused_submission_lists_the_problems_and_no_numbers(entries: list[Entry]) -> None:
    comment = submission_comment(report(problems=2), entries, [MINE])
    assert comment.startswith("## Submission: refused, 2 problems\n")
    assert "rule: results/1: is not right" in comment
    assert "| entry" not in comment
    assert "leaderboard check" in comment
    assert is_harmless(comment)


def test_notices_and_corrections_are_listed(entries: list[Entry]) -> None:
    correction = Correction(
        id="2026-01-01-x", date="2026-01-01", entry=MINE, kind="withdrawal", reason="It was wrong.", by="Jane Doe"
    )
    comment = submission_comment(report(notices=1), entries, [], [correction])
    assert "### To confirm" in comment
    assert f"* withdrawal of `{MINE}` by `Jane Doe`: It was wrong." in comment
    assert is_harmless(comment)


def test_an_entry_that_is_withdrawn_at_once_has_no_numbers(entries: list[Entry]) -> None:
    correction = Correction(
        id="2026-01-01-x", date="2026-01-01", entry=MINE, kind="withdrawal", reason="It was wrong.", by="Jane Doe"
    )
    withdrawn = [Entry(one.run_set, corrections=(correction,) if one.path == MINE else ()) for one in entries]
    assert cells(submission_comment(report(), withdrawn, [MINE]))["badge"] == "withdrawn"


def test_hostile_text_is_only_text(entries: list[Entry]) -> None:
    correction = Correction(id="2026-01-01-x", date="2026-01-01", entry=MINE, kind="challenge", reason=EVIL, by=EVIL)
    comment = submission_comment(report(notices=1, text=EVIL), entries, [MINE], [correction])
    assert "(at)owner" in comment
    assert is_harmless(comment)
    refused = submission_comment(report(problems=1, text=EVIL), entries, [MINE])
    assert "(at)owner" in refused
    assert is_harmless(refused)


@given(some.text())
def test_any_text_is_harmless(text: str) -> None:
    for made in (plain_text(text), code(text), code_block([text, text])):
        assert is_harmless(made), made
    assert "\n" not in plain_text(text)
    assert code(text).count("`") == 2
    assert code_block([text]).count("\n") == 2


@given(some.text("@<>[]()!#&\\`|*~$:/w.GHgh-12 \n"))
def test_any_mixture_of_what_markdown_reads_is_harmless(text: str) -> None:
    assert is_harmless(plain_text(text)), plain_text(text)


def test_the_harmless_test_is_not_vacuous() -> None:
    assert is_harmless("## Heading\n\n| `a` | *b* |\n")
    for part in EVIL.split(" "):
        if part not in ("`x`", "|", "::error::"):
            assert not is_harmless(f"text {part} text"), part


def test_the_length_is_bounded(entries: list[Entry]) -> None:
    long = "x" * 3000
    comment = submission_comment(report(problems=5000, notices=5000, text=long), entries, [MINE])
    assert len(comment) <= MAX_CHARACTERS
    assert "The rest does not fit" in comment
    assert comment.count("\n```") % 2 == 0
    assert is_harmless(comment)
    few = submission_comment(report(problems=60), entries, [MINE])
    assert "The first 50 of 60 problems are shown." in few


def test_many_entries_are_cut(tmp_path: Path) -> None:
    for number in range(45):
        write_run_set(tmp_path / "results", f"Mine{number}", "logits", 3.5, 2.0, seeds=(0, 1, 2))
    entries = load_entries(tmp_path)
    comment = submission_comment(report(), entries, [entry.path for entry in entries])
    assert comment.count("\n| `") == 40
    assert "The first 40 of 45 entries are shown." in comment
    assert is_harmless(comment)


def test_without_a_base_what_was_checked_is_new(leaderboards: Path, tmp_path: Path) -> None:
    file = write_comment(tmp_path / "out" / "comment.md", report(), leaderboards)
    assert cells(file.read_text(encoding="utf-8"))["badge"] == "predictions checked"


def test_corrupt_entries_are_only_read_after_they_were_checked(leaderboards: Path, tmp_path: Path) -> None:
    (leaderboards / "results" / MINE / "run_set.json").write_bytes(b"\xff")
    file = write_comment(tmp_path / "comment.md", report(problems=1), leaderboards, leaderboards)
    assert "refused, 1 problem" in file.read_text(encoding="utf-8")
