"""The base of a pull request, from real repositories."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from git_repository import MAIN, Repository, published_repository
from kd_bench.errors import UserError
from kd_bench.submission.base_tree import ABSENT, SUBMODULE, SYMLINK, Change, base_tree, changes_since, merge_base

PLAIN, EXECUTABLE = "100644", "100755"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return published_repository(tmp_path / "clone")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changes(repository: Repository) -> dict[str, Change]:
    found = changes_since(repository.folder, merge_base(repository.folder, MAIN), "leaderboards")
    assert [change.path for change in found] == sorted({change.path for change in found})
    return {change.path: change for change in found}


def test_the_base_is_written_byte_by_byte_and_removed(repository: Repository) -> None:
    published = files(repository.leaderboards)
    shutil.rmtree(repository.leaderboards / "results" / "digits-v1" / "KD")
    repository.write("leaderboards/README.md", "mine now\n")
    repository.commit()
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert len(published) == 6 * 4 + 1
        assert files(tree.folder) == published
        assert tree.prefix == "leaderboards"
        assert tree.commit == repository.git("rev-parse", MAIN).strip()
    assert not tree.folder.exists()


def test_it_is_the_common_ancestor_and_not_what_main_became(repository: Repository) -> None:
    published = files(repository.leaderboards)
    fork = repository.git("rev-parse", MAIN).strip()
    repository.write("leaderboards/results/new/README.md")
    repository.commit("mine")
    repository.git("switch", "--quiet", MAIN)
    repository.write("leaderboards/README.md", "changed on main\n")
    repository.commit("theirs")
    repository.git("switch", "--quiet", "submission")
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert tree.commit == fork
        assert files(tree.folder) == published
        assert [change.path for change in tree.changes] == ["leaderboards/results/new/README.md"]


def test_attributes_of_the_pull_request_change_nothing(repository: Repository) -> None:
    published = files(repository.leaderboards)
    repository.write(".gitattributes", "* export-ignore\n* text eol=crlf\n*.json export-subst ident\n")
    repository.write("leaderboards/.gitattributes", "* export-ignore filter=evil\n")
    repository.commit()
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert files(tree.folder) == published


def test_a_renamed_file_is_one_gone_and_one_new(repository: Repository) -> None:
    repository.git("config", "diff.renames", "copies")
    repository.git("mv", "leaderboards/results/digits-v1/KD", "leaderboards/results/digits-v1/Mine")
    repository.commit()
    found = changes(repository)
    assert len(found) == 8
    for path, change in found.items():
        gone = "/KD/" in path
        assert (change.before, change.after) == ((PLAIN, ABSENT) if gone else (ABSENT, PLAIN)), path


def test_a_case_rename_is_one_gone_and_one_new(repository: Repository) -> None:
    repository.git("mv", "leaderboards/README.md", "leaderboards/readme.md")
    repository.commit()
    found = changes(repository)
    assert found["leaderboards/README.md"].after == ABSENT
    assert found["leaderboards/readme.md"].before == ABSENT


def test_what_is_not_committed_yet_counts(repository: Repository) -> None:
    repository.write("leaderboards/README.md", "changed\n")
    repository.write("leaderboards/staged.md")
    repository.git("add", "leaderboards/staged.md")
    repository.write("leaderboards/unknown.md")
    repository.write("leaderboards/sub/unknown.md")
    repository.write("my_method.py")
    (repository.folder / "README.md").unlink()
    assert {path: (one.before, one.after) for path, one in changes(repository).items()} == {
        "README.md": (PLAIN, ABSENT),
        "leaderboards/README.md": (PLAIN, PLAIN),
        "leaderboards/staged.md": (ABSENT, PLAIN),
        "leaderboards/sub/unknown.md": (ABSENT, PLAIN),
        "leaderboards/unknown.md": (ABSENT, PLAIN),
    }


def test_a_file_that_was_only_taken_out_of_the_index_is_not_gone(repository: Repository) -> None:
    repository.git("rm", "--quiet", "--cached", "leaderboards/README.md")
    found = changes(repository)["leaderboards/README.md"]
    assert (found.before, found.after) == (PLAIN, PLAIN)


def test_a_touched_file_is_no_change(repository: Repository) -> None:
    os.utime(repository.leaderboards / "README.md", (1, 1))
    assert changes(repository) == {}


def test_links_modes_and_submodules_have_their_modes(repository: Repository) -> None:
    results = repository.leaderboards / "results"
    (results / "link.json").symlink_to("/etc/passwd")
    (results / "digits-v1" / "elsewhere").symlink_to("..")
    script = repository.write("leaderboards/results/run.sh")
    script.chmod(0o755)
    other = Repository(repository.folder.parent / "other")
    other.write("file")
    commit = other.commit()
    repository.commit()
    repository.git("update-index", "--add", "--cacheinfo", f"{SUBMODULE},{commit},leaderboards/results/module")
    repository.git("commit", "--quiet", "--message", "module")
    (results / "module").mkdir()  # a checkout leaves an empty folder
    (results / "untracked").symlink_to("..")
    assert {path: one.after for path, one in changes(repository).items()} == {
        "leaderboards/results/digits-v1/elsewhere": SYMLINK,
        "leaderboards/results/link.json": SYMLINK,
        "leaderboards/results/module": SUBMODULE,
        "leaderboards/results/run.sh": EXECUTABLE,
        "leaderboards/results/untracked": SYMLINK,
    }


def test_links_and_submodules_of_the_base_are_left_out(repository: Repository) -> None:
    (repository.leaderboards / "link").symlink_to("/etc/passwd")
    repository.commit()
    head = repository.git("rev-parse", "HEAD").strip()
    repository.git("update-index", "--add", "--cacheinfo", f"{SUBMODULE},{head},leaderboards/module")
    repository.git("commit", "--quiet", "--message", "module")
    repository.git("branch", "--force", MAIN)
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert not os.path.lexists(tree.folder / "link")
        assert not (tree.folder / "module").exists()
        assert (tree.folder / "README.md").read_text() == "the leaderboards\n"


@pytest.mark.parametrize("name", ["with space", "new\nline", "tab\there", "ünicode", "-dash", "*", ":(exclude)x"])
def test_odd_names_are_read_as_they_are(name: str, repository: Repository) -> None:
    repository.write(f"leaderboards/{name}")
    repository.commit()
    assert list(changes(repository)) == [f"leaderboards/{name}"]
    if ":" not in name:
        repository.git("branch", "--force", MAIN)
        with base_tree(repository.leaderboards, MAIN) as tree:
            assert (tree.folder / name).read_text() == "content\n"


def test_names_that_another_system_reads_otherwise_are_refused(repository: Repository) -> None:
    repository.write("leaderboards/..\\x")
    repository.commit()
    repository.git("branch", "--force", MAIN)
    with pytest.raises(UserError, match="cannot be written here"), base_tree(repository.leaderboards, MAIN):
        pass


@pytest.mark.parametrize(
    "ref",
    [
        "--help",
        "--output=/tmp/x",
        "-x",
        "main..submission",
        "main^{tree}",
        "main:README.md",
        "nothing",
        "",
        "main\n--x",
        "$(touch x)",
        "main;x",
        "x" * 5000,
    ],
)
def test_a_reference_is_nothing_but_a_reference(ref: str, repository: Repository, tmp_path: Path) -> None:
    before = files(repository.folder)
    with pytest.raises(UserError, match="branch"), base_tree(repository.leaderboards, ref):
        pass
    assert files(repository.folder) == before
    assert not Path("x").exists()


@pytest.mark.parametrize("ref", ["main", "submission", "HEAD", "refs/heads/main"])
def test_branches_and_commits_are_references(ref: str, repository: Repository) -> None:
    assert merge_base(repository.folder, ref) == repository.git("rev-parse", MAIN).strip()


def test_histories_without_a_common_commit_are_explained(repository: Repository) -> None:
    repository.git("switch", "--quiet", "--orphan", "other")
    repository.write("leaderboards/README.md")
    repository.commit()
    with pytest.raises(UserError, match=r"no commit in common.*fetch-depth"), base_tree(repository.leaderboards, MAIN):
        pass


def test_a_folder_outside_a_repository_is_named(tmp_path: Path) -> None:
    (tmp_path / "leaderboards").mkdir()
    with pytest.raises(UserError, match=r"git rev-parse failed in .*leaderboards"):
        base_tree(tmp_path / "leaderboards", MAIN).__enter__()


def test_a_link_in_place_of_the_leaderboards_is_refused(repository: Repository) -> None:
    shutil.move(repository.leaderboards, repository.folder.parent / "moved")
    repository.leaderboards.symlink_to(repository.folder.parent / "moved")
    with pytest.raises(UserError, match="is not a folder"):
        base_tree(repository.leaderboards, MAIN).__enter__()


def test_the_top_of_a_repository_is_no_leaderboards_folder(repository: Repository) -> None:
    with pytest.raises(UserError, match="top of a repository"):
        base_tree(repository.folder, MAIN).__enter__()


def test_the_environment_of_a_hook_leads_nowhere_else(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository(tmp_path / "other")
    other.write("leaderboards/README.md", "other\n")
    other.commit()
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.folder / ".git" / "index"))
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert (tree.folder / "README.md").read_text() == "the leaderboards\n"


def test_no_program_of_the_repository_is_run(repository: Repository, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    script = repository.write("evil.sh", f"#!/bin/sh\ntouch {witness}\n")
    script.chmod(0o755)
    for hook in ("post-checkout", "post-index-change", "pre-commit"):
        target = repository.folder / ".git" / "hooks" / hook
        target.parent.mkdir(exist_ok=True)
        shutil.copy(script, target)
    repository.git("config", "core.fsmonitor", str(script))
    repository.git("config", "diff.evil.textconv", str(script))
    repository.git("config", "diff.external", str(script))
    repository.write(".gitattributes", "* diff=evil\n")
    repository.write("leaderboards/README.md", "changed\n")
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert {change.path for change in tree.changes} == {"leaderboards/README.md"}
    assert not witness.exists()
    subprocess.run([str(script)], check=True)
    assert witness.exists(), "the witness is never written, so this test proves nothing"
