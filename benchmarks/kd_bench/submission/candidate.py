"""An entry as it was read: its files are bounded and parsed, but nothing that they say is believed yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from kd_bench.detection.detections import Detections
from kd_bench.entries import entry_path
from kd_bench.layout import TEACHER_DETECTIONS
from kd_bench.predictions import Predictions
from kd_bench.results import DetectionScores, RunSet, Scores, TaskName
from kd_bench.run_set_files import METHOD_FILE, RUN_SET_FILE
from kd_bench.submission.archive import read_arrays
from kd_bench.submission.duplicates import Signature, signature
from kd_bench.submission.folder import (
    MAX_METHOD,
    MAX_PREDICTIONS,
    MAX_RUN_SET,
    MAX_VERIFICATION,
    list_entry,
    read_file,
)
from kd_bench.submission.problem import Problem, RefusedError
from kd_bench.submission.strict_json import parse_model
from kd_bench.verification.record import VERIFICATION_FILE, VerificationLog, VerificationRecord

MAX_UNPACKED: dict[TaskName, int] = {"classification": 10_000_000, "detection": 60_000_000}
"""Most bytes of the arrays of one file: COCO's 5,000 images with a hundred detections have 15 million."""

_CLASSES = ("|u1", "<u2")
_CLASSIFICATION = {
    "predicted": _CLASSES,
    "label": _CLASSES,
    "teacher_predicted": _CLASSES,
    "confidence": ("<f4",),
    "label_log_probability": ("<f4",),
}
_DETECTION = {"image_id": ("<i8",), "label": ("<u2",), "score": ("<f4",), "box": ("<f4",)}


@dataclass
class Candidate:
    """The files of an entry.

    Attributes:
        folder: where they are.
        run_set: what it states.
        sha256: hash of the file that states it.
        hashes: file name → hash of the predictions that are there.
        predictions: seed → what is stored of a student.
        signatures: seed → what is left of its predictions after :meth:`forget`.
        scores: seed → scores that were computed from its predictions by :mod:`.recompute`.
        label_sha256: hash of the labels in the predictions of the first seed; empty for detectors.
        teacher_detections: what is stored of a detector's teacher.
        method: content of the method's file, if there is one.
        verifications: what was recorded, oldest first.
    """

    folder: Path
    run_set: RunSet
    sha256: str
    hashes: dict[str, str] = field(default_factory=dict)
    predictions: dict[int, Predictions | Detections] = field(default_factory=dict)
    signatures: dict[int, Signature] = field(default_factory=dict)
    scores: dict[int, Scores | DetectionScores] = field(default_factory=dict)
    label_sha256: str = ""
    teacher_detections: Detections | None = None
    method: bytes | None = None
    verifications: tuple[VerificationRecord, ...] = ()

    @property
    def path(self) -> str:
        """Where its content belongs: ``<protocol>/<method>/<student>__<teacher>``."""
        return entry_path(self.run_set)

    def forget(self) -> None:
        """Let go of the predictions, of which a whole tree of entries would have too many."""
        self.predictions.clear()
        self.teacher_detections = None


def read_candidate(folder: Path) -> tuple[Candidate | None, list[Problem]]:
    """Read an entry; ``None`` if there is no run set to go by.

    Args:
        folder: of the entry; a real folder.
    """
    listing = list_entry(folder)
    problems = listing.problems
    path = folder / RUN_SET_FILE
    if RUN_SET_FILE not in listing.found:
        if not any(problem.path == str(path) for problem in problems):
            message = f"is missing; copy the whole folder that `lightning-kd bench run` wrote: {RUN_SET_FILE} and *.npz"
            problems.append(Problem(str(path), "files", message))
        return None, problems
    try:
        content = read_file(path, MAX_RUN_SET)
        candidate = Candidate(folder, parse_model(content, RunSet), hashlib.sha256(content).hexdigest())
    except RefusedError as refusal:
        return None, [*problems, refusal.at(path)]
    for name in listing.found:
        try:
            _read_other(candidate, name)
        except RefusedError as refusal:
            problems.append(refusal.at(folder / name))
    return candidate, problems


def parse_predictions(content: bytes, task: TaskName) -> Predictions | Detections:
    """The arrays of a file of predictions, with nothing known yet about what is in them.

    Args:
        content: of the file.
        task: decides which arrays they are.

    Raises:
        RefusedError: if it is another file, or the arrays do not belong together.
    """
    if task == "detection":
        arrays = read_arrays(content, _DETECTION, MAX_UNPACKED[task])
        length = len(arrays["score"])
        shapes = {name: ((length, 4) if name == "box" else (length,)) for name in arrays}
    else:
        arrays = read_arrays(content, _CLASSIFICATION, MAX_UNPACKED[task])
        length = len(arrays["label"])
        shapes = dict.fromkeys(arrays, (length,))
        if length == 0:
            raise RefusedError("predictions", "holds no predictions")
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            expected = f"expected {shapes[name]}, like the others"
            raise RefusedError("predictions", f"{name} has the shape {array.shape}; {expected}")
    return Detections(**arrays) if task == "detection" else Predictions(**arrays)


def labels_sha256(found: Predictions) -> str:
    """Hash of the true classes, whichever type they are stored as."""
    return hashlib.sha256(found.label.astype("<u2").tobytes()).hexdigest()


def _read_other(candidate: Candidate, name: str) -> None:
    path = candidate.folder / name
    if name == METHOD_FILE:
        candidate.method = read_file(path, MAX_METHOD)
    elif name == VERIFICATION_FILE:
        candidate.verifications = parse_model(read_file(path, MAX_VERIFICATION), VerificationLog).records
    elif name.endswith(".npz"):
        task = candidate.run_set.task
        seeds = {run.predictions_file: run.seed for run in candidate.run_set.runs}
        if name == TEACHER_DETECTIONS and task == "detection":
            found = parse_predictions(read_file(path, MAX_PREDICTIONS[task]), task)
            assert isinstance(found, Detections)
            candidate.teacher_detections = found
        elif name in seeds:
            content = read_file(path, MAX_PREDICTIONS[task])
            candidate.hashes[name] = hashlib.sha256(content).hexdigest()
            found = parse_predictions(content, task)
            candidate.predictions[seeds[name]] = found
            candidate.signatures[seeds[name]] = signature(found)
            if isinstance(found, Predictions) and not candidate.label_sha256:
                candidate.label_sha256 = labels_sha256(found)
        else:
            raise RefusedError("files", f"belongs to no run of {RUN_SET_FILE}. Remove it")
