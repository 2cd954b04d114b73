"""`lightning-kd leaderboard correct`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from git_repository import Repository, published_repository
from kd_bench.corrections import load_corrections
from kd_bench.entries import load_entries
from kd_bench.storage import file_sha256
from kd_bench.submission.base_tree import base_tree
from kd_bench.submission.changes import compare_with_base

from lightning_kd.cli.main import main

KD = "digits-v1/KD/mini_cnn4__mini_resnet14"
WHY = ("--reason", "The seeds are the same.", "--by", "Jane Doe")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    repository = published_repository(tmp_path / "clone")
    monkeypatch.chdir(repository.folder)
    return repository


def correct(*arguments: str) -> int:
    return main(["leaderboard", "correct", *arguments])


def problems(repository: Repository) -> list[str]:
    with base_tree(repository.leaderboards, "main") as tree:
        return [str(one) for one in compare_with_base(repository.leaderboards, tree.folder)]


def test_a_challenge_is_written_and_shown(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert correct(KD, "--kind", "challenge", *WHY, "--evidence", "https://example.org/1") == 0
    (written,) = load_corrections(repository.leaderboards / "corrections")
    assert (written.entry, written.kind, written.by, written.evidence) == (
        KD,
        "challenge",
        "Jane Doe",
        "https://example.org/1",
    )
    assert written.id == f"{written.date}-digits-v1-kd-challenge"
    printed = capsys.readouterr().out
    assert f"Written: leaderboards/corrections/{written.id}.json" in printed
    for step in (f"git switch -c {written.id}", "git add leaderboards", "git commit", "git push", "pull request"):
        assert step in printed
    assert max(map(len, printed.splitlines())) <= 100
    assert [entry.path for entry in load_entries(repository.leaderboards) if entry.challenged] == [KD]
    assert problems(repository) == []


def test_nothing_is_overwritten(repository: Repository) -> None:
    for _ in range(3):
        assert correct(KD, "--kind", "challenge", *WHY) == 0
    names = [one.id for one in load_corrections(repository.leaderboards / "corrections")]
    assert [name.removeprefix(names[0]) for name in sorted(names)] == ["", "-2", "-3"]
    assert not list((repository.leaderboards / "corrections").glob(".*"))


@pytest.mark.parametrize("way", ["leaderboards/results/{}", "{}/", "leaderboards/results/{}/run_set.json"])
def test_the_entry_may_be_given_as_a_path(way: str, repository: Repository) -> None:
    assert correct(way.format(KD), "--kind", "challenge", *WHY) == 0
    assert load_corrections(repository.leaderboards / "corrections")[0].entry == KD


def test_a_challenge_is_answered(repository: Repository) -> None:
    assert correct(KD, "--kind", "challenge", *WHY) == 0
    (challenge,) = load_corrections(repository.leaderboards / "corrections")
    assert correct(KD, "--kind", "dismissal", *WHY, "--answers", challenge.id) == 0
    assert not any(entry.challenged for entry in load_entries(repository.leaderboards))


def test_a_demotion_names_a_badge(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert correct(KD, "--kind", "demotion", *WHY) == 2
    assert "names the highest badge" in capsys.readouterr().err
    assert correct(KD, "--kind", "demotion", *WHY, "--badge", "claimed") == 0
    assert load_corrections(repository.leaderboards / "corrections")[0].badge == "claimed"


def test_a_correction_has_the_hashes_of_both_states(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    file = repository.leaderboards / "results" / KD / "run_set.json"
    before = file_sha256(file)
    assert correct(KD, "--kind", "correction", *WHY, "--base-ref", "main") == 2
    assert "is as it is in main" in capsys.readouterr().err
    content = json.loads(file.read_text())
    content["runs"][0]["seconds"] = 1.0
    file.write_text(json.dumps(content))
    assert correct(KD, "--kind", "correction", *WHY, "--base-ref", "main") == 0
    (written,) = load_corrections(repository.leaderboards / "corrections")
    assert (written.before_sha256, written.after_sha256) == (before, file_sha256(file))
    assert problems(repository) == []


def test_a_withdrawal_of_a_removed_entry_has_its_hash(repository: Repository) -> None:
    folder = repository.leaderboards / "results" / KD
    before = file_sha256(folder / "run_set.json")
    for path in folder.iterdir():
        path.unlink()
    assert correct(KD, "--kind", "withdrawal", *WHY, "--base-ref", "main") == 0
    assert load_corrections(repository.leaderboards / "corrections")[0].before_sha256 == before
    assert problems(repository) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("digits-v1/DK/mini_cnn4__mini_resnet14", "--kind", "challenge"), "Did you mean 'digits-v1/DKD"),
        (("../../etc", "--kind", "challenge"), "unknown entry"),
        ((KD, "--kind", "dismissal"), "names the challenge that it answers"),
        ((KD, "--kind", "dismissal", "--answers", "nothing"), "unknown challenge"),
        ((KD, "--kind", "challenge", "--badge", "claimed"), "names the highest badge"),
        ((KD, "--kind", "challenge", "--evidence", "javascript:alert(1)"), "evidence"),
        ((KD, "--kind", "demotion", "--badge", "best"), "badge"),
        ((KD, "--kind", "correction", "--base-ref", "--help"), "there is no branch"),
        ((KD, "--kind", "challenge", "--leaderboards", "elsewhere"), "no such directory: elsewhere"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_written(
    arguments: tuple[str, ...], expected: str, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--base-ref={value}" if value == "--help" else value for value in arguments if value != "--base-ref"]
    assert correct(*given, *WHY) == 2
    errors = capsys.readouterr().err
    assert expected in errors
    assert "Traceback" not in errors
    assert not (repository.leaderboards / "corrections").exists()
