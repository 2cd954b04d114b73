"""The scores of an entry, computed anew from its predictions, and the predictions compared with the test set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kd_bench.detection.annotations import Annotations
from kd_bench.detection.detections import Detections, problem_with
from kd_bench.detection.evaluate import evaluate
from kd_bench.errors import UserError
from kd_bench.layout import TEACHER_DETECTIONS
from kd_bench.predictions import Predictions
from kd_bench.results import DetectionScores, DetectionTeacherInfo, Run, Scores
from kd_bench.submission.candidate import Candidate, labels_sha256
from kd_bench.submission.finding import Finding
from kd_bench.submission.truth import num_classes, test_annotations, test_labels
from kd_bench.training.evaluate import score
from kd_bench.verification.tolerance import PREDICTIONS

TOLERANCE = PREDICTIONS
"""How far a score may be from the one computed here: machines round sums of float32 differently."""

_FLOAT32 = 1e-4
"""The same for a probability that is stored twice, once as its logarithm."""


def check_predictions(candidate: Candidate) -> list[Finding]:
    """Everything that follows from the predictions of an entry of a known protocol.

    Args:
        candidate: the entry, with its predictions.
    """
    findings = list(_files(candidate))
    if candidate.run_set.task == "detection":
        return findings + list(_detection(candidate))
    return findings + list(_classification(candidate))


def _files(candidate: Candidate) -> Iterator[Finding]:
    for run in candidate.run_set.runs:
        name = run.predictions_file
        if name not in candidate.hashes:
            if not (candidate.folder / name).exists():
                yield Finding("files", f"is missing: the predictions of seed {run.seed}", file=name)
        elif candidate.hashes[name] != run.predictions_sha256:
            yield Finding(
                "predictions-hash", f"is not the file of seed {run.seed} that the run set names by its hash", file=name
            )


def _classification(candidate: Candidate) -> Iterator[Finding]:
    protocol = candidate.run_set.protocol.id
    truth, classes = test_labels(protocol), num_classes(protocol)
    if isinstance(truth, str):
        yield Finding("labels", f"not compared with the test set: {truth}", notice=True)
    taught: set[bytes] = set()
    for run in candidate.run_set.runs:
        found = candidate.predictions.get(run.seed)
        if not isinstance(found, Predictions) or not isinstance(run.last, Scores):
            continue
        problem = _wrong_labels(found, truth, candidate) or _impossible(found, classes)
        if problem is not None:
            yield Finding(*problem, file=run.predictions_file)
            continue
        scores = candidate.scores[run.seed] = score(found)
        yield from _compared(run, run.last, scores)
        taught.add(found.teacher_predicted.astype("<u2").tobytes())
        accuracy = float(np.mean(found.teacher_predicted == found.label))
        if abs(accuracy - candidate.run_set.teacher.headline) > TOLERANCE:
            yield Finding(
                "teacher-predictions",
                f"its teacher is right in {accuracy:.6f} of all cases; the run set says "
                f"{candidate.run_set.teacher.headline:.6f}",
                file=run.predictions_file,
            )
    if len(taught) > 1:
        yield Finding("teacher-predictions", "the seeds do not have the same predictions of their one teacher")


def _wrong_labels(
    found: Predictions, truth: npt.NDArray[np.int64] | str, candidate: Candidate
) -> tuple[str, str] | None:
    if isinstance(truth, str):
        if labels_sha256(found) != candidate.label_sha256:
            return "labels", "has other labels than the predictions of the first seed"
        return None
    if len(found.label) != len(truth):
        return "labels", f"has {len(found.label):,} samples; the test set has {len(truth):,}"
    if wrong := int((found.label.astype(np.int64) != truth).sum()):
        return "labels", f"{wrong:,} labels are not those of the test set"
    return None


def _impossible(found: Predictions, classes: int | None) -> tuple[str, str] | None:
    """Why no network can have predicted this, if so."""
    confidence = found.confidence.astype(np.float64)
    logarithm = found.label_log_probability.astype(np.float64)
    if not (np.isfinite(confidence).all() and np.isfinite(logarithm).all()):
        return "predictions", "has probabilities that are not finite"
    if (confidence <= 0).any() or (confidence > 1).any() or (logarithm > TOLERANCE).any():
        return "predictions", "has probabilities that are not between 0 and 1"
    if classes is not None:
        largest = max(int(each.max()) for each in (found.predicted, found.label, found.teacher_predicted))
        if largest >= classes:
            return "predictions", f"has the class {largest}; there are {classes}"
        if (confidence < 1 / classes - _FLOAT32).any():
            return "predictions", f"predicts a class with less than 1/{classes}, so another one is more probable"
    of_label = np.exp(logarithm)
    if (np.abs(of_label - confidence)[found.correct] > _FLOAT32).any():
        return "predictions", "gives a right prediction and its label different probabilities"
    if (of_label > np.minimum(confidence, 1 - confidence) + _FLOAT32)[~found.correct].any():
        return "predictions", "gives the label of a wrong prediction more than is left"
    return None


def _detection(candidate: Candidate) -> Iterator[Finding]:
    info = candidate.run_set.teacher
    truth = test_annotations(candidate.run_set.protocol.id)
    if isinstance(truth, str):
        yield Finding("scores", f"not recomputed: {truth}", notice=True)
        return
    assert isinstance(info, DetectionTeacherInfo)
    if info.truth_sha256 not in (None, truth.checksum()):
        yield Finding("labels", "was scored against other annotations than those of the test set (truth_sha256)")
    for run in candidate.run_set.runs:
        found = candidate.predictions.get(run.seed)
        if isinstance(found, Detections) and isinstance(run.last, DetectionScores):
            scores = _scores(found, truth)
            if isinstance(scores, str):
                yield Finding("predictions", scores, file=run.predictions_file)
            else:
                candidate.scores[run.seed] = scores
                yield from _compared(run, run.last, scores)
    if candidate.teacher_detections is None:
        if not (candidate.folder / TEACHER_DETECTIONS).exists():
            yield Finding("files", "is missing: what the teacher found", file=TEACHER_DETECTIONS)
        return
    scores = _scores(candidate.teacher_detections, truth)
    if isinstance(scores, str):
        yield Finding("predictions", scores, file=TEACHER_DETECTIONS)
    elif abs(scores.ap - info.ap) > TOLERANCE:
        message = f"has an AP of {scores.ap:.6f}; the run set says {info.ap:.6f}"
        yield Finding("teacher-predictions", message, file=TEACHER_DETECTIONS)


def _scores(found: Detections, truth: Annotations) -> DetectionScores | str:
    if problem := problem_with(found, truth):
        return problem
    try:
        metrics = evaluate(truth, found)
    except UserError as error:
        return str(error)
    return DetectionScores(**{name: getattr(metrics, name) for name in DetectionScores.model_fields})


def _compared(run: Run, stated: Scores | DetectionScores, found: Scores | DetectionScores) -> Iterator[Finding]:
    for name in type(stated).model_fields:
        claim, value = getattr(stated, name), getattr(found, name)
        if claim is None or value is None:
            same = claim is value
        else:
            same = abs(claim - value) <= TOLERANCE * max(1.0, abs(value))
        if not same:
            yield Finding(
                "scores",
                f"seed {run.seed}: {name} is stated as {claim}, its predictions give {value}. Results are written by "
                "the runner and not edited",
                file=run.predictions_file,
            )
