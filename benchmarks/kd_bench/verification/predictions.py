"""Level one: every score of every seed, computed anew from the stored predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.predictions import Predictions
from kd_bench.results import DetectionTeacherInfo, RunSet
from kd_bench.run_set_files import RUN_SET_FILE, read_run_set
from kd_bench.submission.candidate import Candidate, parse_predictions, read_candidate
from kd_bench.submission.folder import MAX_PREDICTIONS, read_file
from kd_bench.submission.problem import RefusedError
from kd_bench.submission.recompute import check_predictions
from kd_bench.verification.findings import Findings, SeedResult
from kd_bench.verification.tolerance import PREDICTIONS

_FLIPPED = 0.001
"""Share of test samples on which one file of weights may predict differently on different machines."""


def verify_predictions(entry: Entry) -> Findings:
    """Compare an entry with its predictions, these with the test set, and its teacher with that of other entries.

    Args:
        entry: with a folder.

    Raises:
        UserError: if its run set cannot be read.
    """
    assert entry.folder is not None
    candidate, refused = read_candidate(entry.folder)
    if candidate is None:
        raise UserError("; ".join(map(str, refused)))
    found = check_predictions(candidate)
    problems = [f"{problem.rule}: {Path(problem.path).name}: {problem.message}" for problem in refused]
    problems += [_told(one.file, one.message) for one in found if not one.notice]
    remarks = [_told(one.file, one.message) for one in found if one.notice]
    obstacles = []
    if len(candidate.scores) < len(candidate.run_set.runs) and not problems:
        obstacles.append("not all scores can be computed here; the remarks say what is missing on this machine")
    teacher_problems, teacher_remarks = _compare_teachers(candidate)
    return Findings(
        recompute_scores(candidate),
        (*problems, *teacher_problems),
        (*remarks, *teacher_remarks),
        PREDICTIONS,
        obstacles=tuple(obstacles),
    )


def recompute_scores(candidate: Candidate) -> tuple[SeedResult, ...]:
    """The headline of each seed, as it is stated and as it follows from the predictions.

    Args:
        candidate: after :func:`kd_bench.submission.recompute.check_predictions`.
    """
    scores = candidate.scores
    return tuple(
        SeedResult(run.seed, run.last.headline, scores[run.seed].headline if run.seed in scores else None)
        for run in candidate.run_set.runs
    )


def _told(file: str, message: str) -> str:
    return f"{file}: {message}" if file else message


def _compare_teachers(candidate: Candidate) -> tuple[list[str], list[str]]:
    """Problems and remarks: one file of weights has one score, and predicts the same in every entry.

    Where entries contradict one another, those are at fault that are fewer.
    """
    same: list[str] = []
    different: list[str] = []
    for path, folder, other in _with_its_teacher(candidate):
        problem = _difference(candidate, folder, other)
        if problem is None:
            same.append(path)
        else:
            different.append(f"{path} {problem}")
    if not different:
        return [], []
    more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
    message = (
        f"its teacher has the same weights as that of {len(same) + len(different)} other entries, but not the same "
        f"results: {different[0]}{more}"
    )
    return ([message], []) if len(different) > len(same) else ([], [message])


def _with_its_teacher(candidate: Candidate) -> list[tuple[str, Path, RunSet]]:
    """The other entries beside it that have a teacher of these weights: path, folder, run set."""
    mine, found = candidate.run_set, []
    for path in sorted(candidate.folder.absolute().parents[1].glob(f"*/*/{RUN_SET_FILE}")):
        if path.parent == candidate.folder.absolute():
            continue
        try:
            other = read_run_set(path)
        except UserError:  # not this entry's fault
            continue
        if other.protocol == mine.protocol and other.teacher.weights_sha256 == mine.teacher.weights_sha256:
            found.append(("/".join(path.parent.parts[-2:]), path.parent, other))
    return found


def _difference(candidate: Candidate, folder: Path, other: RunSet) -> str | None:
    mine = candidate.run_set.teacher
    if mine.parameters != other.teacher.parameters:
        return f"says that it has {other.teacher.parameters:,} parameters, not {mine.parameters:,}"
    # on another machine a few samples may be decided differently
    if abs(mine.headline - other.teacher.headline) > _FLIPPED:
        return f"says that it has a score of {other.teacher.headline:.4f}, not {mine.headline:.4f}"
    first = next((each for each in candidate.predictions.values() if isinstance(each, Predictions)), None)
    if first is None or isinstance(mine, DetectionTeacherInfo):
        return None
    try:
        content = read_file(folder / other.runs[0].predictions_file, MAX_PREDICTIONS[other.task])
        theirs = parse_predictions(content, other.task)
    except RefusedError:  # not this entry's fault
        return None
    if not isinstance(theirs, Predictions) or len(theirs.label) != len(first.label):
        return None
    share = float(np.mean(theirs.teacher_predicted != first.teacher_predicted))
    return None if share <= _FLIPPED else f"has other predictions of it on {100 * share:.2f} % of the test set"
