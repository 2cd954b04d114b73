"""From the output of a benchmark into the leaderboards: checked before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from committed_entries import copy_entry
from kd_bench.corrections import load_corrections
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.results import RunSet
from kd_bench.run_set_files import read_run_set, run_set_path
from kd_bench.storage import DiskFullError, file_sha256, read_model, write_model
from kd_bench.submission import submit as module
from kd_bench.submission.changes import compare_with_base, new_entries
from kd_bench.submission.check import check
from kd_bench.submission.selecting import Description
from kd_bench.submission.submit import Submission, submit

COMMITTED = Path(__file__).parents[3] / "leaderboards"
PAIR = "mini_cnn4__mini_resnet14"
KD, PLAIN, DKD = (f"digits-v1/{name}/{PAIR}" for name in ("KD", "plain", "DKD"))
JANE = Description(contact="Jane Doe")


@pytest.fixture
def leaderboards(tmp_path: Path) -> Path:
    """Real entries: the check recomputes them."""
    target = tmp_path / "leaderboards"
    for entry in (KD, PLAIN):
        copy_entry(COMMITTED / "results" / entry, target / "results" / entry)
    shutil.copy(COMMITTED / "teachers.json", target)
    return target


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The output of a benchmark with three rows, one of which the leaderboards lack."""
    output = tmp_path / "runs"
    for entry in (KD, PLAIN, DKD):
        copy_entry(COMMITTED / "results" / entry, output / "results" / entry)
    return output


def run_set_of(root: Path, entry: str) -> Path:
    return run_set_path(root / "results", *entry.replace("__", "/").split("/"))


def edit(root: Path, entry: str, change: Callable[[RunSet], RunSet]) -> None:
    path = run_set_of(root, entry)
    write_model(path, change(read_model(path, RunSet)))


def slower(run_set: RunSet) -> RunSet:
    """The same predictions, other times: another run of the same seeds."""
    runs = tuple(run.model_copy(update={"seconds": 2 * run.seconds}) for run in run_set.runs)
    return run_set.model_copy(update={"runs": runs})


def wrong(run_set: RunSet) -> RunSet:
    first = run_set.runs[0]
    last = first.last.model_copy(update={"nll": 9.0})
    return run_set.model_copy(update={"runs": (first.model_copy(update={"last": last}), *run_set.runs[1:])})


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): file_sha256(path) for path in root.rglob("*") if path.is_file()}


def rules(done: Submission) -> list[str]:
    return [problem.rule for problem in done.report.problems]


def test_what_the_leaderboards_lack_is_written(runs: Path, leaderboards: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(leaderboards, tmp_path / "base"))
    done = submit(runs, leaderboards, about=Description("Jane Doe", "MIT"))
    assert done.report.ok
    assert done.written == (leaderboards / "results" / DKD,)
    assert done.corrected == ()
    assert set(done.left_out) == {KD, PLAIN}
    assert all("already, number by number" in why for why in done.left_out.values())
    assert files(leaderboards).keys() - files(base).keys() == {
        f"results/{DKD}/{name}" for name in ("run_set.json", *(f"seed-{seed}.npz" for seed in range(5)))
    }
    assert {path: files(leaderboards)[path] for path in files(base)} == files(base)
    written = read_run_set(run_set_of(leaderboards, DKD))
    assert (written.contact, written.method.licence, written.extra_data) == ("Jane Doe", "MIT", False)
    assert written.runs == read_run_set(run_set_of(runs, DKD)).runs
    assert compare_with_base(leaderboards, base) == []
    assert new_entries(leaderboards, base) == [DKD]
    assert check([leaderboards]).ok


def test_other_numbers_of_a_published_row_are_for_comparison(runs: Path, leaderboards: Path) -> None:
    edit(runs, KD, slower)
    before = file_sha256(run_set_of(leaderboards, KD))
    done = submit(runs, leaderboards)
    assert "for comparison" in done.left_out[KD]
    assert file_sha256(run_set_of(leaderboards, KD)) == before


def test_named_methods_only(runs: Path, leaderboards: Path) -> None:
    shutil.rmtree(leaderboards / "results" / PLAIN)
    done = submit(runs, leaderboards, methods=["plain"])
    assert done.written == (leaderboards / "results" / PLAIN,)
    assert done.left_out == {KD: "not asked for", DKD: "not asked for"}
    with pytest.raises(UserError, match=r"unknown method 'DKK'.*Did you mean 'DKD'"):
        submit(runs, leaderboards, methods=["DKK"])


def test_a_published_row_is_not_replaced(runs: Path, leaderboards: Path) -> None:
    edit(runs, KD, slower)
    before = files(leaderboards)
    with pytest.raises(UserError, match=r"have digits-v1/KD.*with other numbers.*--correction"):
        submit(runs, leaderboards, methods=["KD", "DKD"])
    assert files(leaderboards) == before


def test_nothing_new_is_explained(runs: Path, leaderboards: Path) -> None:
    shutil.rmtree(runs / "results" / DKD)
    with pytest.raises(UserError, match=r"nothing to submit.*already, number by number"):
        submit(runs, leaderboards)


@pytest.mark.parametrize("variant", ["-quick", "-tuning", "-miniature"])
def test_variants_are_no_results(variant: str, runs: Path, leaderboards: Path) -> None:
    def renamed(run_set: RunSet) -> RunSet:
        reference = run_set.protocol.model_copy(update={"id": run_set.protocol.id + variant, "hash": "d" * 64})
        return run_set.model_copy(update={"protocol": reference})

    edit(runs, DKD, renamed)
    shutil.move(runs / "results" / DKD, runs / "results" / DKD.replace("digits-v1", f"digits-v1{variant}"))
    before = files(leaderboards)
    for methods in (None, ["DKD"]):
        with pytest.raises(UserError, match=r"nothing to submit.*no result of the protocol"):
            submit(runs, leaderboards, methods=methods)
    assert files(leaderboards) == before


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda one: one.model_copy(update={"runs": one.runs[:2]}), "seeds"),
        (wrong, "scores"),
        (lambda one: one.model_copy(update={"verification": "retrained"}), "verification"),
    ],
)
def test_what_is_refused_is_not_written(
    change: Callable[[RunSet], RunSet], rule: str, runs: Path, leaderboards: Path
) -> None:
    edit(runs, DKD, change)
    before = files(leaderboards)
    done = submit(runs, leaderboards)
    assert rule in rules(done)
    assert done.written == ()
    assert files(leaderboards) == before
    assert all("kd-bench-submit" not in problem.path for problem in done.report.problems)
    assert done.report.problems[0].path.startswith(str(leaderboards))


def test_one_refused_row_holds_back_all(runs: Path, leaderboards: Path) -> None:
    shutil.rmtree(leaderboards / "results" / PLAIN)
    edit(runs, DKD, wrong)
    before = files(leaderboards)
    assert not submit(runs, leaderboards).report.ok
    assert files(leaderboards) == before


def test_missing_predictions_are_named(runs: Path, leaderboards: Path) -> None:
    (runs / "results" / DKD / "seed-1.npz").unlink()
    with pytest.raises(UserError, match=r"seed-1\.npz is missing. Run the benchmark again"):
        submit(runs, leaderboards)


def test_other_files_stay_at_home(runs: Path, leaderboards: Path) -> None:
    (runs / "results" / DKD / "notes.txt").write_text("mine")
    assert submit(runs, leaderboards).report.ok
    assert not (leaderboards / "results" / DKD / "notes.txt").exists()


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (Description(contact="x" * 600), "the contact"),
        (Description(licence="<script>"), "the licence"),
        (Description(licence=""), None),
    ],
)
def test_descriptions_are_checked(about: Description, expected: str | None, runs: Path, leaderboards: Path) -> None:
    before = files(leaderboards)
    if expected is None:
        assert submit(runs, leaderboards, about=about).report.ok
        return
    with pytest.raises(UserError, match=f"{expected} .* is not accepted"):
        submit(runs, leaderboards, about=about)
    assert files(leaderboards) == before


def test_hostile_descriptions_are_refused_by_the_check(runs: Path, leaderboards: Path) -> None:
    before = files(leaderboards)
    assert "text" in rules(submit(runs, leaderboards, about=Description(contact="\u202eevil")))
    assert files(leaderboards) == before


def test_extra_data_is_declared(runs: Path, leaderboards: Path) -> None:
    done = submit(runs, leaderboards, about=Description(extra_data=True))
    assert [notice.rule for notice in done.report.notices] == ["extra-data"]
    assert read_run_set(run_set_of(leaderboards, DKD)).extra_data


def corrected(runs: Path, leaderboards: Path, **options: Any) -> Submission:
    given = {"methods": ["KD"], "about": JANE, "correction": True, "reason": "The clock was wrong."} | options
    return submit(runs, leaderboards, **given)


def test_a_correction_replaces_and_leaves_a_record(runs: Path, leaderboards: Path, tmp_path: Path) -> None:
    (leaderboards / "results" / KD / "seed-9.npz").write_bytes(b"of an earlier run")
    before = file_sha256(run_set_of(leaderboards, KD))
    base = Path(shutil.copytree(leaderboards, tmp_path / "base"))
    edit(runs, KD, slower)
    done = corrected(runs, leaderboards)
    assert done.report.ok
    assert done.corrected == (KD,)
    (record,) = load_corrections(leaderboards / "corrections")
    assert done.written == (leaderboards / "results" / KD, leaderboards / "corrections" / f"{record.id}.json")
    assert (record.entry, record.kind, record.reason, record.by) == (
        KD,
        "correction",
        "The clock was wrong.",
        "Jane Doe",
    )
    assert (record.before_sha256, record.after_sha256) == (before, file_sha256(run_set_of(leaderboards, KD)))
    assert not (leaderboards / "results" / KD / "seed-9.npz").exists()
    assert compare_with_base(leaderboards, base) == []
    (entry,) = [entry for entry in load_entries(leaderboards) if entry.path == KD]
    assert entry.corrections == (record,)


def test_two_corrections_of_a_day_have_two_records(runs: Path, leaderboards: Path) -> None:
    for _ in range(2):
        edit(runs, KD, slower)
        assert corrected(runs, leaderboards).report.ok
    first, second = sorted(load_corrections(leaderboards / "corrections"), key=lambda one: one.id)
    assert first.after_sha256 == second.before_sha256


@pytest.mark.parametrize("missing", [{"reason": None}, {"reason": ""}, {"methods": None}, {"about": Description()}])
def test_a_correction_says_what_and_why_and_who(missing: dict[str, Any], runs: Path, leaderboards: Path) -> None:
    edit(runs, KD, slower)
    before = files(leaderboards)
    with pytest.raises(UserError, match="--methods, --reason and --contact"):
        corrected(runs, leaderboards, **missing)
    assert files(leaderboards) == before


def test_a_refused_correction_leaves_no_record(runs: Path, leaderboards: Path) -> None:
    edit(runs, KD, wrong)
    before = files(leaderboards)
    assert not corrected(runs, leaderboards).report.ok
    assert files(leaderboards) == before


@pytest.mark.parametrize("after", range(7))
def test_a_full_disk_leaves_everything_as_it_was(
    after: int, runs: Path, leaderboards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(runs, KD, slower)
    before = files(leaderboards)
    real, written = module.write_atomic, []

    def failing(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == after + 1:
            raise DiskFullError("full")
        real(path, content)

    monkeypatch.setattr(module, "write_atomic", failing)
    with pytest.raises(DiskFullError):
        corrected(runs, leaderboards)
    assert len(written) > after
    assert files(leaderboards) == before


def test_without_leaderboards_nothing_is_made(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no leaderboards folder"):
        submit(runs, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_without_results_the_benchmark_is_named(leaderboards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        submit(tmp_path / "nothing", leaderboards)
