"""From the output of a benchmark to the files of a pull request: checked first, written then, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kd_bench.corrections import CORRECTIONS
from kd_bench.entries import RESULTS, entry_path
from kd_bench.errors import UserError
from kd_bench.layout import TEACHER_DETECTIONS
from kd_bench.results import RunSet
from kd_bench.run_set_files import METHOD_FILE, RUN_SET_FILE
from kd_bench.storage import file_sha256, write_atomic, write_model
from kd_bench.submission.check import CheckReport, check
from kd_bench.submission.correct import today, write_new_correction
from kd_bench.submission.problem import Problem, shown
from kd_bench.submission.selecting import Description, Selected, select
from kd_bench.verification.record import VERIFICATION_FILE


@dataclass(frozen=True)
class Submission:
    """What became of a submission.

    Attributes:
        report: what the check found; if something is refused, nothing was written.
        entries: the run sets that are submitted.
        corrected: paths of those that replace a published one.
        left_out: path → why it was not submitted.
        written: folders of entries and files of corrections.
    """

    report: CheckReport
    entries: tuple[RunSet, ...]
    corrected: tuple[str, ...]
    left_out: Mapping[str, str]
    written: tuple[Path, ...] = ()


def submit(
    run_dir: Path | str,
    leaderboards: Path | str,
    *,
    methods: Collection[str] | None = None,
    about: Description | None = None,
    correction: bool = False,
    reason: str | None = None,
) -> Submission:
    """Check results and write them into the leaderboards.

    Args:
        run_dir: output directory of a benchmark.
        leaderboards: the folder in a checkout.
        methods: names of the rows to submit; by default those that the leaderboards lack.
        about: what the submitter adds.
        correction: whether published entries of the named methods are replaced; it leaves a record.
        reason: what was wrong with them.

    Raises:
        UserError: if there is nothing to submit, or something published would be replaced without a reason.
    """
    source, target, about = Path(run_dir), Path(leaderboards), about or Description()
    if target.is_symlink() or not (target / RESULTS).is_dir():
        raise UserError(
            f"{shown(target)} is no leaderboards folder, for it has no {RESULTS}. Run this in a clone, "
            "or give its folder with --leaderboards."
        )
    if correction and (methods is None or not reason or not about.contact):
        raise UserError(
            "a correction names the methods that are replaced, says what was wrong with them, and by whom: give "
            "--methods, --reason and --contact."
        )
    selected = select(source, target, methods, about, correction=correction)
    with tempfile.TemporaryDirectory(prefix="kd-bench-submit-") as place:
        stage = Path(place) / "leaderboards"
        _stage(selected, stage, target)
        records = _stage_corrections(selected, stage, target, reason, about)
        report = _as_written(check([stage], leaderboards=target), stage, target)
        entries = tuple(run_set for run_set, _ in (*selected.new, *selected.changed))
        corrected = tuple(entry_path(run_set) for run_set, _ in selected.changed)
        done = Submission(report, entries, corrected, selected.left_out)
        if not report.ok:
            return done
        folders = [Path(RESULTS, entry_path(run_set)) for run_set in entries]
        with _undone_on_failure() as write:
            for folder in folders:
                _publish(stage / folder, target / folder, write)
            for record in records:
                write(target / record, (stage / record).read_bytes())
    return replace(done, written=tuple(target / path for path in (*folders, *records)))


def _stage(selected: Selected, stage: Path, target: Path) -> None:
    """Lay out the entries as they would be published."""
    for run_set, folder in (*selected.new, *selected.changed):
        new = stage / RESULTS / entry_path(run_set)
        new.mkdir(parents=True)
        for name in _files_of(run_set, folder):
            # read and written, not copied: neither links nor permissions come along
            (new / name).write_bytes((folder / name).read_bytes())
        log = target / RESULTS / entry_path(run_set) / VERIFICATION_FILE
        if log.is_file():
            (new / VERIFICATION_FILE).write_bytes(log.read_bytes())
        write_model(new / RUN_SET_FILE, run_set)


def _files_of(run_set: RunSet, folder: Path) -> Iterator[str]:
    for run in run_set.runs:
        if not (folder / run.predictions_file).is_file():
            raise UserError(
                f"{shown(folder / run.predictions_file, limit=300)} is missing. Run the benchmark again: "
                "what is there is kept, and what is missing is made anew."
            )
        yield run.predictions_file
    yield from (name for name in (TEACHER_DETECTIONS, METHOD_FILE) if (folder / name).is_file())


def _stage_corrections(
    selected: Selected, stage: Path, target: Path, reason: str | None, about: Description
) -> list[Path]:
    records = []
    for run_set, _ in selected.changed:
        path = entry_path(run_set)
        fields = {
            "date": today(),
            "entry": path,
            "kind": "correction",
            "reason": reason,
            "by": about.contact,
            "before_sha256": file_sha256(target / RESULTS / path / RUN_SET_FILE),
            "after_sha256": file_sha256(stage / RESULTS / path / RUN_SET_FILE),
        }
        file, _ = write_new_correction(stage, fields, known=target)
        records.append(Path(CORRECTIONS, file.name))
    return records


def _as_written(report: CheckReport, stage: Path, target: Path) -> CheckReport:
    """The report with the paths that the files would have."""

    def moved(problem: Problem) -> Problem:
        return Problem(problem.path.replace(str(stage), str(target)), problem.rule, problem.message)

    return replace(
        report,
        entries=tuple(entry.replace(str(stage), str(target)) for entry in report.entries),
        problems=tuple(map(moved, report.problems)),
        notices=tuple(map(moved, report.notices)),
    )


class _Writing:
    """Files as they were before they were written or removed."""

    def __init__(self) -> None:
        self._before: dict[Path, bytes | None] = {}

    def __call__(self, path: Path, content: bytes | None) -> None:
        """Write a file, or remove it."""
        self._before.setdefault(path, path.read_bytes() if path.is_file() else None)
        _put(path, content)

    def undo(self) -> None:
        for path, content in reversed(self._before.items()):
            _put(path, content)


@contextmanager
def _undone_on_failure() -> Iterator[_Writing]:
    writing = _Writing()
    try:
        yield writing
    except BaseException:
        writing.undo()
        raise


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        write_atomic(path, content)


def _publish(staged: Path, folder: Path, write: _Writing) -> None:
    """Put an entry in its place; ``run_set.json`` comes last, for without it there is no entry."""
    names = {path.name for path in staged.iterdir()}
    for name in sorted(names - {RUN_SET_FILE}):
        write(folder / name, (staged / name).read_bytes())
    write(folder / RUN_SET_FILE, (staged / RUN_SET_FILE).read_bytes())
    for old in sorted(folder.iterdir()):
        if old.name not in names:  # of the entry that was corrected
            write(old, None)
