"""The check of a pull request looks at what was changed, and at nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from committed_entries import copy_entry
from git_repository import MAIN, Repository
from kd_bench.errors import UserError
from kd_bench.results import RunSet
from kd_bench.storage import read_model, write_model
from kd_bench.submission.published import Published
from kd_bench.submission.pull_request import changed_paths, check_pull_request

COMMITTED = Path(__file__).parents[3] / "leaderboards"
PAIR = "mini_cnn4__mini_resnet14"


@pytest.fixture
def clone(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "clone")
    for name in ("plain", "KD"):
        add(repository, name)
    shutil.copy(COMMITTED / "teachers.json", repository.leaderboards)
    repository.write("README.md", "the project\n")
    repository.commit("published")
    repository.git("switch", "--quiet", "--create", "mine")
    return repository


def add(repository: Repository, name: str) -> Path:
    entry = f"results/digits-v1/{name}/{PAIR}"
    return copy_entry(COMMITTED / entry, repository.leaderboards / entry)


def found(repository: Repository, **options: bool) -> tuple[list[str], list[str], list[str]]:
    """Entries that were looked at, rules that were broken, and notices."""
    report = check_pull_request([repository.leaderboards], MAIN, **options)
    entries = [Path(entry).parts[-2] for entry in report.entries]
    return entries, [problem.rule for problem in report.problems], [notice.rule for notice in report.notices]


def test_without_changes_nothing_is_checked(clone: Repository) -> None:
    assert found(clone) == ([], [], [])


def test_only_new_entries_are_recomputed(clone: Repository) -> None:
    add(clone, "DKD")
    assert found(clone) == (["DKD"], [], [])
    clone.commit()
    assert found(clone) == (["DKD"], [], [])


def test_a_new_entry_is_checked_whole(clone: Repository) -> None:
    file = add(clone, "DKD") / "run_set.json"
    run_set = read_model(file, RunSet)
    last = run_set.runs[0].last.model_copy(update={"nll": 9.0})
    runs = (run_set.runs[0].model_copy(update={"last": last}), *run_set.runs[1:])
    write_model(file, run_set.model_copy(update={"runs": runs}))
    entries, rules, _ = found(clone)
    assert entries == ["DKD"]
    assert "scores" in rules


def test_a_change_of_a_published_entry_is_checked_and_refused(clone: Repository) -> None:
    (clone.leaderboards / "results" / "digits-v1" / "KD" / PAIR / "seed-0.npz").write_bytes(b"x")
    entries, rules, _ = found(clone)
    assert entries == ["KD"]
    assert {"entry-changed", "predictions-hash"} <= set(rules)


def test_a_removed_entry_is_refused(clone: Repository) -> None:
    shutil.rmtree(clone.leaderboards / "results" / "digits-v1" / "KD")
    assert found(clone) == ([], ["entry-removed"], [])


def test_a_copy_of_a_published_entry_is_seen(clone: Repository) -> None:
    folder = clone.leaderboards / "results" / "digits-v1"
    shutil.copytree(folder / "KD", folder / "Mine")
    entries, rules, _ = found(clone)
    assert entries == ["Mine"]
    assert "path" in rules


@pytest.mark.parametrize(
    "path",
    [
        "results/x.html",
        "results/digits-v1/index.html",
        "results/digits-v1/KD/.x",
        "corrections/x.html",
        "corrections/a/b.json",
    ],
)
def test_files_where_none_belong_are_refused(path: str, clone: Repository) -> None:
    clone.write(f"leaderboards/{path}", "<script>")
    _, rules, _ = found(clone)
    assert "files" in rules


def test_links_are_refused_also_if_git_has_them_only(clone: Repository) -> None:
    (clone.leaderboards / "results" / "digits-v1" / "Mine").symlink_to("KD")
    _, rules, _ = found(clone)
    assert "file-kind" in rules


def test_other_changes_are_notices(clone: Repository) -> None:
    add(clone, "DKD")
    clone.write("README.md", "changed\n")
    clone.write("leaderboards/README.md", "new\n")
    clone.commit()
    assert found(clone) == (["DKD"], [], ["other-change", "other-change"])


def test_the_registry_of_the_base_decides(clone: Repository) -> None:
    add(clone, "DKD")
    (clone.leaderboards / "teachers.json").unlink()
    _, rules, _ = found(clone)
    assert set(rules) == {"registry-changed"}


def test_an_entry_may_be_named(clone: Repository) -> None:
    report = check_pull_request([clone.leaderboards / "results" / "digits-v1" / "KD" / PAIR], MAIN)
    assert len(report.entries) == 1
    assert report.ok


def test_a_comment_is_written_for_good_and_for_bad(clone: Repository, tmp_path: Path) -> None:
    folder = add(clone, "DKD")
    check_pull_request([clone.leaderboards], MAIN, comment=tmp_path / "good.md")
    assert f"`digits-v1/DKD/{PAIR}`" in (tmp_path / "good.md").read_text(encoding="utf-8")
    (folder / "run_set.json").write_bytes(b"\xff")
    check_pull_request([clone.leaderboards], MAIN, comment=tmp_path / "bad.md")
    assert "refused" in (tmp_path / "bad.md").read_text(encoding="utf-8")


def test_paths_outside_of_leaderboards_are_explained(clone: Repository, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lies in no leaderboards"):
        check_pull_request([tmp_path], MAIN)


def test_a_record_of_verification_is_a_change_of_its_entry(clone: Repository, tmp_path: Path) -> None:
    base = Path(shutil.copytree(clone.leaderboards, tmp_path / "base"))
    clone.write(f"leaderboards/results/digits-v1/KD/{PAIR}/verification.json", "{}")
    changed = changed_paths(Published(clone.leaderboards), Published(base))
    assert changed == [clone.leaderboards / "results" / "digits-v1" / "KD" / PAIR]
