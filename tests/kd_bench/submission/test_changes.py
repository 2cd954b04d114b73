"""What a pull request may do to published entries."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_repository import MAIN, Repository, published_repository
from kd_bench.corrections import Correction
from kd_bench.results import RunSet, Verification
from kd_bench.run_set_files import run_set_path
from kd_bench.storage import file_sha256, read_model, write_model
from kd_bench.submission.base_tree import SUBMODULE, base_tree
from kd_bench.submission.changes import compare_with_base, new_entries, other_changes, refused_kinds
from kd_bench.submission.problem import Problem
from kd_bench.submission.teachers import RegisteredTeacher, TeacherRegistry, write_registry
from kd_bench.verification.record import VERIFICATION_FILE, SeedFinding, VerificationRecord, append_verification
from synthetic_results import ENVIRONMENT, write_results, write_run_set

KD = "digits-v1/KD/mini_cnn4__mini_resnet14"
MINE = "digits-v1/Mine/mini_cnn4__mini_resnet14"
DAY = "2026-03-04"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "base"
    write_results(base / "results", seeds=(0, 1, 2))
    verify(base, KD, "predictions checked")
    correct(base, "2026-01-01-kd", kind="challenge", entry=KD)
    write_registry(base, registry("1" * 64))
    (base / "README.md").write_text("read me\n")
    return base


@pytest.fixture
def now(base: Path) -> Path:
    return Path(shutil.copytree(base, base.parent / "leaderboards"))


def verify(root: Path, entry: str, level: Verification, sha256: str | None = None, by: str = "Somebody") -> None:
    assert level != "claimed"
    record = VerificationRecord(
        level=level,
        date=DAY,
        by=by,
        run_set_sha256=sha256 or sha(root, entry),
        seeds=(SeedFinding(seed=0, claimed=0.5, found=0.5),),
        tolerance=0.0,
        environment=ENVIRONMENT,
        package_version="0.1.0",
    )
    append_verification(root / "results" / entry, record)


def correct(root: Path, id_: str, **fields: Any) -> None:
    described = {"id": id_, "date": DAY, "reason": "Because.", "by": "Somebody"} | fields
    write_model(root / "corrections" / f"{id_}.json", Correction(**described))


def registry(*hashes: str, score: float = 0.9) -> TeacherRegistry:
    known = tuple(
        RegisteredTeacher(
            weights_sha256=one, score=score, parameters=1000, origin="trained on the spot", added_by="Somebody"
        )
        for one in hashes
    )
    return TeacherRegistry(protocols={"digits-v1": {"mini_resnet14": known}})


def sha(root: Path, entry: str) -> str:
    return file_sha256(root / "results" / entry / "run_set.json")


def add_mine(root: Path, name: str = "Mine") -> None:
    write_run_set(root / "results", name, "logits", 3.6, 2.0, seeds=(0, 1, 2))


def change_kd(root: Path) -> tuple[str, str]:
    """Change the seconds of a run; hashes before and after."""
    path = run_set_path(root / "results", *KD.replace("__", "/").split("/"))
    before = file_sha256(path)
    run_set = read_model(path, RunSet)
    runs = (run_set.runs[0].model_copy(update={"seconds": 1.0}), *run_set.runs[1:])
    write_model(path, run_set.model_copy(update={"runs": runs}))
    return before, file_sha256(path)


def rules(problems: list[Problem]) -> list[str]:
    return [problem.rule for problem in problems]


def test_nothing_changed_is_fine(base: Path, now: Path) -> None:
    assert compare_with_base(now, base) == []
    assert new_entries(now, base) == []


def test_a_new_entry_is_free(base: Path, now: Path) -> None:
    add_mine(now)
    verify(now, MINE, "predictions checked")
    assert compare_with_base(now, base) == []
    assert new_entries(now, base) == [MINE]


def test_everything_is_new_without_a_base(tmp_path: Path, now: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(new_entries(now, tmp_path / "empty")) == 6


@pytest.mark.parametrize("name", ["run_set.json", "seed1.npz"])
@pytest.mark.parametrize("how", ["changed", "removed", "link", "folder"])
def test_files_of_an_entry_stay(how: str, name: str, base: Path, now: Path) -> None:
    file = now / "results" / KD / name
    content = file.read_bytes()
    file.unlink()
    if how == "changed":
        file.write_bytes(content + b" ")
    if how == "link":
        file.symlink_to(base / "results" / KD / name)
    if how == "folder":
        file.mkdir()
    problems = compare_with_base(now, base)
    removed = name == "run_set.json" and how != "changed"
    # without its results, the records beside an entry mean nothing either
    assert rules(problems) == ["entry-removed" if removed else "entry-changed"]
    assert problems[0].path == f"results/{KD}"


@pytest.mark.parametrize("name", ["teacher.npz", "method.py", "notes.txt", "sub/deep.json"])
def test_nothing_is_added_to_an_entry(name: str, base: Path, now: Path) -> None:
    file = now / "results" / KD / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"new")
    problems = compare_with_base(now, base)
    assert rules(problems) == ["entry-changed"]
    assert name in problems[0].message


def test_an_entry_is_not_renamed(base: Path, now: Path) -> None:
    (now / "results" / KD).parent.rename(now / "results" / "digits-v1" / "Better")
    assert rules(compare_with_base(now, base)) == ["entry-removed"]


def test_a_change_needs_a_record_with_its_very_hashes(base: Path, now: Path) -> None:
    before, after = change_kd(now)
    assert rules(compare_with_base(now, base)) == ["entry-changed"]
    correct(now, "2026-03-04-kd", kind="correction", entry=KD, before_sha256=before, after_sha256=after)
    assert compare_with_base(now, base) == []
    assert new_entries(now, base) == [KD]


@pytest.mark.parametrize("which", ["before", "after", "both", "swapped"])
def test_forged_hashes_permit_nothing(which: str, base: Path, now: Path) -> None:
    before, after = change_kd(now)
    wrong = {
        "before": ("0" * 64, after),
        "after": (before, "0" * 64),
        "both": ("0" * 64,) * 2,
        "swapped": (after, before),
    }
    first, second = wrong[which]
    correct(now, "2026-03-04-kd", kind="correction", entry=KD, before_sha256=first, after_sha256=second)
    assert rules(compare_with_base(now, base)) == ["correction-unmatched", "entry-changed"]


def test_a_record_about_another_entry_permits_nothing(base: Path, now: Path) -> None:
    before, after = change_kd(now)
    other = KD.replace("/KD/", "/DKD/")
    correct(now, "2026-03-04-kd", kind="correction", entry=other, before_sha256=before, after_sha256=after)
    assert rules(compare_with_base(now, base)) == ["correction-unmatched", "entry-changed"]


def test_an_old_record_permits_no_second_change(base: Path, now: Path) -> None:
    before, after = change_kd(now)
    correct(base, "2026-01-02-kd", kind="correction", entry=KD, before_sha256=before, after_sha256=after)
    shutil.copy(base / "corrections" / "2026-01-02-kd.json", now / "corrections")
    assert rules(compare_with_base(now, base)) == ["entry-changed"]


def test_a_correction_that_changes_nothing_is_no_correction(base: Path, now: Path) -> None:
    correct(now, "2026-03-04-kd", kind="correction", entry=KD, before_sha256="1" * 64, after_sha256="2" * 64)
    assert rules(compare_with_base(now, base)) == ["correction-unmatched"]


def test_an_entry_leaves_with_a_withdrawal_that_names_its_hash(base: Path, now: Path) -> None:
    before = sha(now, KD)
    shutil.rmtree(now / "results" / KD)
    assert rules(compare_with_base(now, base)) == ["entry-removed"]
    correct(now, "2026-03-04-kd", kind="withdrawal", entry=KD)
    assert rules(compare_with_base(now, base)) == ["entry-removed"]
    correct(now, "2026-03-04-kd", kind="withdrawal", entry=KD, before_sha256=before)
    assert compare_with_base(now, base) == []


def test_a_withdrawal_does_not_permit_half_an_entry(base: Path, now: Path) -> None:
    correct(now, "2026-03-04-kd", kind="withdrawal", entry=KD, before_sha256=sha(now, KD))
    (now / "results" / KD / "run_set.json").unlink()
    assert rules(compare_with_base(now, base)) == ["entry-removed"]


def test_a_withdrawal_may_leave_the_files(base: Path, now: Path) -> None:
    correct(now, "2026-03-04-kd", kind="withdrawal", entry=KD)
    assert compare_with_base(now, base) == []


def test_corrections_are_never_changed(base: Path, now: Path) -> None:
    (now / "corrections" / "2026-01-01-kd.json").unlink()
    assert rules(compare_with_base(now, base)) == ["correction-changed"]
    correct(now, "2026-01-01-kd", kind="challenge", entry=KD, reason="Other.")
    assert rules(compare_with_base(now, base)) == ["correction-changed"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "x"}', b"\xff\xfe", b"null"])
def test_unreadable_corrections_are_named(content: bytes, base: Path, now: Path) -> None:
    (now / "corrections" / "2026-03-04-x.json").write_bytes(content)
    problems = compare_with_base(now, base)
    assert rules(problems) == ["correction-invalid"]
    assert problems[0].path == "corrections/2026-03-04-x.json"


def test_a_linked_correction_is_not_read(base: Path, now: Path, tmp_path: Path) -> None:
    correct(tmp_path, "2026-03-04-x", kind="challenge", entry=KD)
    link = now / "corrections" / "2026-03-04-x.json"
    link.symlink_to(tmp_path / "corrections" / "2026-03-04-x.json")
    assert rules(compare_with_base(now, base)) == ["correction-invalid"]
    link.unlink()
    shutil.copy(tmp_path / "corrections" / "2026-03-04-x.json", link)
    assert compare_with_base(now, base) == []


def test_a_correction_is_about_an_entry(base: Path, now: Path) -> None:
    correct(now, "2026-03-04-x", kind="challenge", entry="digits-v1/Nothing/a__b")
    assert rules(compare_with_base(now, base)) == ["correction-unmatched"]


def test_an_answer_is_to_a_challenge_of_the_same_entry(base: Path, now: Path) -> None:
    correct(now, "2026-03-04-x", kind="withdrawal", entry=KD, answers="2026-01-01-kd")
    assert compare_with_base(now, base) == []
    correct(now, "2026-03-04-x", kind="withdrawal", entry=KD.replace("/KD/", "/DKD/"), answers="2026-01-01-kd")
    assert rules(compare_with_base(now, base)) == ["correction-unmatched"]
    correct(now, "2026-03-04-x", kind="withdrawal", entry=KD, answers="2026-03-04-x")
    assert rules(compare_with_base(now, base)) == ["correction-unmatched"]


@pytest.mark.parametrize(
    "fields", [{"kind": "dismissal", "answers": "2026-01-01-kd"}, {"kind": "demotion", "badge": "claimed"}]
)
def test_judgements_are_for_maintainers(fields: dict[str, str], base: Path, now: Path) -> None:
    correct(now, "2026-03-04-x", entry=KD, **fields)
    assert rules(compare_with_base(now, base)) == ["correction-maintainer"]
    assert compare_with_base(now, base, maintainer=True) == []


def test_anybody_may_challenge(base: Path, now: Path) -> None:
    correct(now, "2026-03-04-x", kind="challenge", entry=KD)
    assert compare_with_base(now, base) == []


def forget_first(log: dict[str, Any]) -> None:
    log["records"].pop(0)


def edit_first(log: dict[str, Any]) -> None:
    log["records"][0]["by"] = "Somebody else"


def raise_first(log: dict[str, Any]) -> None:
    log["records"][0]["level"] = "retrained"


def put_before(log: dict[str, Any]) -> None:
    log["records"].insert(0, log["records"][0] | {"date": "2026-01-01"})


@pytest.mark.parametrize("edit", [forget_first, edit_first, raise_first, put_before])
@pytest.mark.parametrize("maintainer", [False, True])
def test_verifications_only_grow(
    maintainer: bool, edit: Callable[[dict[str, Any]], None], base: Path, now: Path
) -> None:
    path = now / "results" / KD / VERIFICATION_FILE
    log = json.loads(path.read_text())
    edit(log)
    path.write_text(json.dumps(log))
    problems = compare_with_base(now, base, maintainer=maintainer)
    assert rules(problems) == ["verification-changed"]
    assert problems[0].path == f"results/{KD}/verification.json"


@pytest.mark.parametrize("content", [None, b"", b"{}", b"{", b'{"records": 3}'])
def test_verifications_stay_and_stay_readable(content: bytes | None, base: Path, now: Path) -> None:
    path = now / "results" / KD / VERIFICATION_FILE
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert rules(compare_with_base(now, base)) == ["verification-changed"]


def test_linked_verifications_are_not_read(base: Path, now: Path) -> None:
    path = now / "results" / KD / VERIFICATION_FILE
    path.unlink()
    path.symlink_to(base / "results" / KD / VERIFICATION_FILE)
    assert rules(compare_with_base(now, base)) == ["verification-changed"]


@pytest.mark.parametrize("entry", [KD, MINE, KD.replace("/KD/", "/DKD/")])
@pytest.mark.parametrize("level", ["checkpoint re-evaluated", "retrained"])
def test_a_stranger_brings_no_badge_that_costs_work(level: Verification, entry: str, base: Path, now: Path) -> None:
    add_mine(now)
    verify(now, entry, level)
    problems = compare_with_base(now, base)
    assert rules(problems) == ["verification-level"]
    assert level in problems[0].message
    assert compare_with_base(now, base, maintainer=True) == []


@pytest.mark.parametrize("entry", [KD, MINE])
def test_a_new_record_is_about_the_file_beside_it(entry: str, base: Path, now: Path) -> None:
    add_mine(now)
    verify(now, entry, "predictions checked", sha256="0" * 64)
    assert rules(compare_with_base(now, base, maintainer=True)) == ["verification-hash"]


def test_a_corrected_entry_keeps_its_records(base: Path, now: Path) -> None:
    before, after = change_kd(now)
    correct(now, "2026-03-04-kd", kind="correction", entry=KD, before_sha256=before, after_sha256=after)
    verify(now, KD, "predictions checked")
    assert compare_with_base(now, base) == []


def test_names_differ_by_more_than_case(base: Path, now: Path) -> None:
    add_mine(now, "kd")
    problems = compare_with_base(now, base)
    assert rules(problems) == ["case"]
    assert KD in problems[0].message


def test_a_case_rename_is_a_removal(base: Path, now: Path) -> None:
    (now / "results" / KD).parent.rename(now / "results" / "digits-v1" / "kd")
    assert rules(compare_with_base(now, base)) == ["entry-removed"]


def test_files_beside_the_entries_stay(base: Path, now: Path) -> None:
    for root in (base, now):
        (root / "results" / "digits-v1" / "README.md").write_text("read me\n")
    assert compare_with_base(now, base) == []
    (now / "results" / "digits-v1" / "README.md").unlink()
    assert rules(compare_with_base(now, base)) == ["file-changed"]


def test_registered_teachers_stay(base: Path, now: Path) -> None:
    write_registry(now, registry("1" * 64, score=0.95))
    assert "registry-changed" in rules(compare_with_base(now, base, maintainer=True))
    (now / "teachers.json").unlink()
    assert rules(compare_with_base(now, base, maintainer=True)) == ["registry-changed"]
    (now / "teachers.json").write_text("{")
    assert rules(compare_with_base(now, base, maintainer=True)) == ["registry-changed"]


def test_teachers_are_registered_by_maintainers(base: Path, now: Path) -> None:
    write_registry(now, registry("1" * 64, "2" * 64))
    assert rules(compare_with_base(now, base)) == ["registry-maintainer"]
    assert compare_with_base(now, base, maintainer=True) == []


@pytest.mark.parametrize(("folder", "rule"), [("results", "entry-removed"), ("corrections", "correction-changed")])
def test_a_link_in_place_of_a_folder_is_not_followed(folder: str, rule: str, base: Path, now: Path) -> None:
    shutil.rmtree(now / folder)
    (now / folder).symlink_to(base / folder)
    assert rule in rules(compare_with_base(now, base))


def test_a_pipe_is_not_waited_for(base: Path, now: Path) -> None:
    for path in (f"results/{KD}/{VERIFICATION_FILE}", f"results/{KD}/run_set.json", "corrections/2026-01-01-kd.json"):
        (now / path).unlink()
        os.mkfifo(now / path)
    found = rules(compare_with_base(now, base))
    assert sorted(found) == ["correction-changed", "entry-removed", "verification-changed"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return published_repository(tmp_path / "clone")


def test_from_a_real_repository_only_the_entry_is_new(repository: Repository) -> None:
    add_mine(repository.leaderboards)
    repository.commit("mine")
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert compare_with_base(repository.leaderboards, tree.folder) == []
        assert new_entries(repository.leaderboards, tree.folder) == [MINE]
        assert refused_kinds(tree) == other_changes(tree) == []


def test_other_changes_are_listed_for_review(repository: Repository) -> None:
    add_mine(repository.leaderboards)
    repository.write("README.md", "changed\n")
    repository.write(".gitattributes", "* export-ignore\n")
    repository.write("leaderboards/.gitattributes", "* export-ignore\n")
    repository.write("leaderboards/results.json", "{}")
    repository.write("leaderboards/teachers.json", "{}")
    (repository.leaderboards / "README.md").unlink()
    repository.commit()
    with base_tree(repository.leaderboards, MAIN) as tree:
        notices = {notice.path: notice.message for notice in other_changes(tree)}
    assert list(notices) == [
        ".gitattributes",
        "README.md",
        "leaderboards/.gitattributes",
        "leaderboards/README.md",
        "leaderboards/results.json",
    ]
    assert "also removes this file" in notices["leaderboards/README.md"]
    assert "also changes this file" in notices["README.md"]
    assert all("review as code" in message for message in notices.values())


def test_links_submodules_and_programs_are_refused_from_the_commit(repository: Repository) -> None:
    results = repository.leaderboards / "results"
    (results / "digits-v1" / "Linked").symlink_to("KD")
    repository.write("leaderboards/results/digits-v1/run.sh").chmod(0o755)
    repository.write("tools/run.sh").chmod(0o755)
    repository.commit()
    head = repository.git("rev-parse", "HEAD").strip()
    repository.git("update-index", "--add", "--cacheinfo", f"{SUBMODULE},{head},leaderboards/results/module")
    repository.git("commit", "--quiet", "--message", "module")
    (results / "module").mkdir()
    with base_tree(repository.leaderboards, MAIN) as tree:
        problems = {problem.path: problem for problem in refused_kinds(tree)}
        assert rules(other_changes(tree)) == ["other-change"]
    assert list(problems) == [
        "leaderboards/results/digits-v1/Linked",
        "leaderboards/results/digits-v1/run.sh",
        "leaderboards/results/module",
    ]
    assert {problem.rule for problem in problems.values()} == {"file-kind"}
    assert "submodule" in problems["leaderboards/results/module"].message


def test_a_rename_in_git_is_a_removal_and_an_addition(repository: Repository) -> None:
    repository.git("mv", "leaderboards/results/digits-v1/KD", "leaderboards/results/digits-v1/Mine")
    repository.commit()
    with base_tree(repository.leaderboards, MAIN) as tree:
        assert rules(compare_with_base(repository.leaderboards, tree.folder)) == ["entry-removed"]
        assert new_entries(repository.leaderboards, tree.folder) == [MINE]


def test_text_of_the_submission_cannot_leave_its_line(base: Path, now: Path) -> None:
    name = "\x1b[31mred\n::error::x\u202eevil.txt"
    (now / "results" / KD / name).write_bytes(b"")
    (problem,) = compare_with_base(now, base)
    assert str(problem).isprintable()
    assert "::error" not in str(problem)
