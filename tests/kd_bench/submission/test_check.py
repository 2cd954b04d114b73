"""What a submission has to pass: valid ones do, hostile ones do not, and nothing happens on the way."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import stat
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from hostile.cases import CASES
from hostile.edits import edit
from hostile.files import Payload
from hostile.table import MARKER, Hostile
from hostile.valid import COMMITTED, VALID, committed_entry, own_entry
from hostile.witness import nothing_happens
from kd_bench.errors import UserError
from kd_bench.submission.check import CheckReport, check
from kd_bench.submission.problem import is_invisible
from kd_bench.submission.report import report_json, report_lines

MEMORY = 300_000_000


def snapshot(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Kind, size, time and content of everything below a folder; links are not followed."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        small = stat.S_ISREG(status.st_mode) and status.st_size < 10_000_000
        content = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def watched(root: Path, leaderboards: Path) -> CheckReport:
    """The report, after making sure that nothing was written and little memory used."""
    before = snapshot(root)
    # to follow the memory takes long where a second is needed to score detections
    detectors = "digits-detection-v1" in {path.name for path in leaderboards.rglob("*")}
    with nullcontext() if detectors else bounded_memory(), nothing_happens(root):
        report = check([leaderboards])
    assert snapshot(root) == before
    return report


@contextmanager
def bounded_memory() -> Iterator[None]:
    """A block that may not use more than :data:`MEMORY`."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported and read on first use is imported and read."""
    for number, make in enumerate(VALID):
        check([make(tmp_path_factory.mktemp(f"warm{number}")).parents[3]])


def test_the_witness_sees_what_happens(tmp_path: Path) -> None:
    payload = pickle.dumps(Payload(tmp_path / MARKER))
    for happening in (
        lambda: pickle.loads(payload),
        lambda: (tmp_path / "written").write_text(""),
        lambda: subprocess.run(["true"], check=True),
        lambda: exec(compile("x = 1", tmp_path / "method.py", "exec")),
    ):
        with pytest.raises(AssertionError), nothing_happens(tmp_path):
            happening()
    with nothing_happens(tmp_path):
        (tmp_path / "written").read_text()


def test_there_are_many_cases_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("make", VALID, ids=lambda make: make.__name__)
def test_valid_submissions_pass(make: Callable[[Path], Path], tmp_path: Path) -> None:
    entry = make(tmp_path)
    report = watched(tmp_path, entry.parents[3])
    assert report.problems == ()
    assert report.exit_code == 0
    assert {Path(path) for path in report.entries} >= {entry}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_submissions_are_refused_with_a_reason(
    case: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = case.start(tmp_path)
    leaderboards = entry.parents[3]
    case.make(entry)
    report = watched(tmp_path, leaderboards)
    assert report.exit_code == 1
    matching = [problem for problem in report.problems if problem.rule == case.rule and case.mention in str(problem)]
    assert matching, report.problems
    assert not list(tmp_path.rglob(MARKER))
    printed = [*report_lines(report), *report_json(report).splitlines()]
    assert not [line for line in printed if any(map(is_invisible, line)) or "::" in line or len(line) > 1500]


def test_committed_results_pass_without_a_remark() -> None:
    report = check([COMMITTED / "results" / "digits-v1" / "KD", COMMITTED / "teachers.json", COMMITTED / "schema.json"])
    assert (report.problems, report.notices) == ((), ())
    assert (len(report.entries), report.files) == (1, 2)


@pytest.mark.slow
def test_all_committed_results_pass() -> None:
    report = check([COMMITTED])
    assert report.problems == ()
    # of a method that was changed since, where the checkout is a shallow one
    assert {notice.rule for notice in report.notices} <= {"source-hash"}
    assert len(report.entries) == len(list(COMMITTED.rglob("run_set.json")))


@pytest.mark.parametrize("levels", range(5))
def test_an_entry_is_found_from_any_folder_around_it(levels: int, tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)
    report = check([[entry / "run_set.json", entry, *entry.parents][levels]])
    assert str(entry) in report.entries
    assert report.ok


def test_an_entry_that_is_given_twice_is_checked_once(tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)
    assert check([entry, entry / "seed-0.npz", entry / "run_set.json"]).entries == (str(entry),)


@pytest.mark.parametrize("name", ["nothing", "leaderboards/teachers.txt", "."])
def test_what_is_no_part_of_leaderboards_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "leaderboards").mkdir()
    (tmp_path / "leaderboards" / "teachers.txt").write_text("")
    assert [problem.rule for problem in check([tmp_path / name]).problems] == ["files"]


def test_a_changed_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text((COMMITTED / "schema.json").read_text() + " ")
    assert [problem.rule for problem in check([path]).problems] == ["schema"]


def test_teachers_are_looked_up_in_the_base(tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)
    leaderboards, base = entry.parents[3], tmp_path / "base"
    base.mkdir()
    (base / "teachers.json").write_text((leaderboards / "teachers.json").read_text())
    registry = leaderboards / "teachers.json"
    hash_ = json.loads((entry / "run_set.json").read_text())["teacher"]["weights_sha256"]
    registry.write_text(registry.read_text().replace(hash_, "1" * 64))
    edit(entry, lambda run_set: run_set["teacher"].update(weights_sha256="1" * 64, accuracy=0.5))
    rules = {problem.rule for problem in check([entry], base=base).problems}
    assert "teacher" in rules


def test_a_teacher_that_was_trained_here_is_left_to_a_maintainer(tmp_path: Path) -> None:
    entry = own_entry(tmp_path)
    edit(entry, lambda run_set: run_set["teacher"].update(weights_sha256="1" * 64))
    report = check([entry])
    assert report.ok
    assert [notice.rule for notice in report.notices] == ["teacher"]
    assert "trained on the submitter's machine" in report.notices[0].message


def test_declared_data_is_left_to_a_maintainer(tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)
    edit(entry, lambda run_set: run_set.update(extra_data=True))
    assert [notice.rule for notice in check([entry]).notices] == ["extra-data"]


def test_other_hyper_parameters_under_a_name_of_the_table_are_remarked_on(tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)
    edit(entry, lambda run_set: run_set["method"]["parameters"].update(temperature=2.0))
    assert [notice.rule for notice in check([entry]).notices] == ["hyper-parameters"]


def test_base_and_leaderboards_must_be_folders(tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        check([entry], base=tmp_path / "nothing")
    with pytest.raises(UserError, match="not a folder"):
        check([entry], leaderboards=entry / "run_set.json")


def test_a_submission_does_not_fill_the_log(tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)

    def change(run_set: dict[str, object]) -> None:
        run_set["method"]["parameters"] = {f"\x1b{number}": 1 for number in range(1000)}  # type: ignore[index]

    edit(entry, change)
    report = check([entry])
    assert not report.ok
    assert len(report.problems) < 100


def test_every_rule_is_documented() -> None:
    table = (COMMITTED.parent / "docs" / "checks.md").read_text()
    rows = [line.partition("|")[2].partition("|")[0] for line in table.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert {case.rule for case in CASES} <= documented
