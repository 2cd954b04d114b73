"""`lightning-kd leaderboard submit`, and the check that follows it in a clone."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import pytest
from committed_entries import copy_entry
from git_repository import MAIN, Repository
from kd_bench.entries import load_entries
from kd_bench.results import RunSet
from kd_bench.run_set_files import read_run_set
from kd_bench.storage import read_model, write_model

from lightning_kd.cli.main import main

COMMITTED = Path(__file__).parents[2] / "leaderboards"
PAIR = "mini_cnn4__mini_resnet14"
METHOD = '''"""Mean squared error between logits."""

import torch.nn.functional as F

from lightning_kd.methods import DistillationMethod


class LogitMatching(DistillationMethod):
    def forward(self, exchange):
        return F.mse_loss(exchange.student.logits, exchange.teacher.logits.detach())
'''


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A stranger's clone with published entries, on a branch, with results of a method of their own in ``runs``."""
    repository = Repository(tmp_path / "clone")
    for name in ("plain", "KD"):
        entry = f"results/digits-v1/{name}/{PAIR}"
        copy_entry(COMMITTED / entry, repository.leaderboards / entry)
        copy_entry(COMMITTED / entry, repository.folder / "runs" / entry)
    shutil.copy(COMMITTED / "teachers.json", repository.leaderboards)
    repository.write(".gitignore", "runs/\n")
    repository.commit("published")
    own_results(repository.folder / "runs" / "results")
    repository.git("switch", "--quiet", "--create", "mine")
    monkeypatch.chdir(repository.folder)
    return repository


def own_results(results: Path) -> None:
    """What a run of LogitMatching would leave: here, another method's numbers under its name."""
    source, target = results.parents[2], results / "digits-v1" / "LogitMatching" / PAIR
    copy_entry(COMMITTED / "results" / "digits-v1" / "DKD" / PAIR, target)
    assert source.is_dir()
    (target / "method.py").write_text(METHOD)
    run_set = read_model(target / "run_set.json", RunSet)
    method = run_set.method.model_copy(
        update={
            "name": "LogitMatching",
            "class_path": "my_method.LogitMatching",
            "parameters": {"weight": 1.0},
            "source_sha256": hashlib.sha256(METHOD.encode()).hexdigest(),
            "citation": None,
        }
    )
    write_model(target / "run_set.json", run_set.model_copy(update={"method": method}))


def run(*words: str) -> int:
    return main(["leaderboard", *words])


def test_a_strangers_method_becomes_an_entry_that_passes_the_check(
    clone: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("submit", "--contact", "Jane Doe", "--licence", "MIT") == 0
    folder = clone.leaderboards / "results" / "digits-v1" / "LogitMatching" / PAIR
    assert sorted(path.name for path in folder.iterdir()) == [
        "method.py",
        "run_set.json",
        *(f"seed-{seed}.npz" for seed in range(5)),
    ]
    assert (folder / "method.py").read_text() == METHOD
    written = read_run_set(folder / "run_set.json")
    assert (written.contact, written.method.licence) == ("Jane Doe", "MIT")
    assert sorted(clone.git("status", "--short", "--untracked-files=all").split()[1::2]) == sorted(
        f"leaderboards/results/digits-v1/LogitMatching/{PAIR}/{path.name}" for path in folder.iterdir()
    )
    capsys.readouterr()
    assert run("check", "leaderboards", "--base-ref", MAIN, "--comment", "comment.md", "--json", "report.json") == 0
    assert "Checked 1 entry: nothing to refuse" in capsys.readouterr().out
    assert json.loads(Path("report.json").read_text())["ok"] is True
    assert f"`digits-v1/LogitMatching/{PAIR}`" in Path("comment.md").read_text(encoding="utf-8")


def test_the_steps_that_are_printed_lead_to_a_pull_request(
    clone: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("submit") == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    assert "Not submitted:" in printed
    assert "already, number by number" in printed
    steps = [shlex.split(line) for line in printed.splitlines() if line.startswith("  git ")]
    assert [words[1] for words in steps] == ["switch", "add", "commit", "push"]
    for words in steps[:3]:
        clone.git(*words[1:])
    assert clone.git("status", "--short") == ""
    assert clone.git("log", "-1", "--format=%s").strip() == "Results of LogitMatching on digits-v1"
    ours = [shlex.split(line)[1:] for line in printed.splitlines() if line.startswith("  lightning-kd ")]
    assert [words[1] for words in ours] == ["verify", "check"]
    assert main([*ours[0], "--by", "Jane Doe"]) == 0
    assert main([MAIN if word == "origin/main" else word for word in ours[1]]) == 0
    badges = {entry.run_set.method.name: entry.badge for entry in load_entries(clone.leaderboards)}
    assert badges == {"KD": "claimed", "plain": "claimed", "LogitMatching": "predictions checked"}


def test_how_to_keep_weights_is_said(clone: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    file = clone.folder / "runs" / "results" / "digits-v1" / "LogitMatching" / PAIR / "run_set.json"
    original = read_model(file, RunSet)
    assert run("submit") == 0
    assert "--keep-weights" in capsys.readouterr().out
    shutil.rmtree(clone.leaderboards / "results" / "digits-v1" / "LogitMatching")
    runs = tuple(one.model_copy(update={"weights_sha256": f"{one.seed}" * 64}) for one in original.runs)
    write_model(file, original.model_copy(update={"runs": runs}))
    assert run("submit") == 0
    printed = capsys.readouterr().out
    assert "keep runs/weights" in printed
    assert "--keep-weights" not in printed


def test_a_refused_submission_writes_nothing(clone: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    (clone.folder / "runs" / "results" / "digits-v1" / "LogitMatching" / PAIR / "method.py").write_text("import os\n")
    assert run("submit") == 1
    printed = capsys.readouterr()
    assert "refused by the rule" in printed.out
    assert "leaderboards/results/digits-v1/LogitMatching" in printed.out
    assert "Next:" not in printed.out
    assert "Nothing was written." in printed.err
    assert clone.git("status", "--short") == ""


def test_the_method_is_not_executed(clone: Repository, tmp_path: Path) -> None:
    folder = clone.folder / "runs" / "results" / "digits-v1" / "LogitMatching" / PAIR
    text = METHOD + f"\nopen({str(tmp_path / 'witness')!r}, 'w').close()\n"
    (folder / "method.py").write_text(text)
    run_set = read_model(folder / "run_set.json", RunSet)
    method = run_set.method.model_copy(update={"source_sha256": hashlib.sha256(text.encode()).hexdigest()})
    write_model(folder / "run_set.json", run_set.model_copy(update={"method": method}))
    run("submit")
    run("check", "leaderboards", "--base-ref", MAIN)
    assert not (tmp_path / "witness").exists()


def test_a_published_entry_needs_a_correction(clone: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    file = clone.folder / "runs" / "results" / "digits-v1" / "KD" / PAIR / "run_set.json"
    run_set = read_model(file, RunSet)
    runs = tuple(one.model_copy(update={"seconds": 2 * one.seconds}) for one in run_set.runs)
    write_model(file, run_set.model_copy(update={"runs": runs}))
    assert run("submit", "--methods", "KD") == 2
    assert "--correction" in capsys.readouterr().err
    assert run("submit", "--methods", "KD", "--correction") == 2
    assert "--reason" in capsys.readouterr().err
    why = ("--reason", "The clock was wrong.", "--contact", "Jane Doe")
    assert run("submit", "--methods", "KD", "--correction", *why) == 0
    printed = capsys.readouterr().out
    assert "git add leaderboards/corrections" in printed
    assert "Correction of KD on digits-v1" in printed
    assert run("check", "leaderboards", "--base-ref", MAIN) == 0
    (record,) = (clone.leaderboards / "corrections").iterdir()
    record.unlink()
    assert run("check", "leaderboards", "--base-ref", MAIN) == 1
    assert "entry-changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("submit", "nowhere"), "no such directory: nowhere"),
        (("submit", "--leaderboards", "nowhere"), "nowhere is no leaderboards folder"),
        (("submit", "--methods", "Mine"), "unknown method 'Mine'"),
        (("submit", "--methods", "KD"), "already, number by number"),
        (("submit", "--methods", ","), "holds an empty name"),
        (("submit", "--licence", "<b>"), "the licence '<b>' is not accepted"),
    ],
)
def test_mistakes_are_explained(
    words: tuple[str, ...], expected: str, clone: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    errors = capsys.readouterr().err
    assert expected in errors
    assert "Traceback" not in errors
    assert clone.git("status", "--short") == ""


def test_check_takes_the_base_once(clone: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "leaderboards", "--base", "leaderboards", "--base-ref", MAIN) == 2
    assert "Give one of them" in capsys.readouterr().err
    assert run("check", "leaderboards", "--base-ref", "nothing") == 2
    assert "there is no branch" in capsys.readouterr().err


def test_a_comment_is_written_without_a_base_too(clone: Repository) -> None:
    assert run("submit") == 0
    assert run("check", f"leaderboards/results/digits-v1/LogitMatching/{PAIR}", "--comment", "comment.md") == 0
    comment = Path("comment.md").read_text(encoding="utf-8")
    assert f"`digits-v1/LogitMatching/{PAIR}`" in comment
    assert " of 3, a" in comment, "it is compared with the other rows of the leaderboards"
