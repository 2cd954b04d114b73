"""The scores that a leaderboard shows, task by task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

from kd_bench.results import PLAIN, DetectionScores, RunSet, TaskName


@dataclass(frozen=True)
class ScoreColumn:
    """A score beside the headline: the mean over the seeds.

    Attributes:
        key: identifies it.
        title: its heading.
        unit: of the number shown, or an empty string.
        digits: decimals.
        factor: of the number shown.
        first: direction of the first sort, the one that puts the best on top.
        value: takes it from a run set; ``None`` where there is none.
        meaning: what it is, in a sentence.
        in_terminal: whether the table in the terminal has it, which is narrower than the page.
    """

    key: str
    title: str
    unit: str
    digits: int
    factor: float
    first: str
    value: Callable[[RunSet], float | None]
    meaning: str
    in_terminal: bool = True


@dataclass(frozen=True)
class TaskColumns:
    """What a task is judged by.

    Attributes:
        headline: name of the score that rows are sorted by.
        unit: of the headline.
        reference: row that the others are compared with.
        axis: what the headline is called on an axis.
        meaning: what the headline is, in a sentence.
        others: the scores beside it.
    """

    headline: str
    unit: str
    reference: str
    axis: str
    meaning: str
    others: tuple[ScoreColumn, ...]


def columns_of(task: TaskName) -> TaskColumns:
    """The scores of a task."""
    return _TASKS[task]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _precision(name: str, title: str, meaning: str, *, in_terminal: bool = True) -> ScoreColumn:
    def value(run_set: RunSet) -> float | None:
        return _mean(_detection_score(scores, name) for scores in run_set.detection_scores())

    return ScoreColumn(name, title, "%", 2, 100.0, "descending", value, meaning, in_terminal)


def _detection_score(scores: DetectionScores, name: str) -> float | None:
    found: float | None = getattr(scores, name)
    return found


_CLASSIFICATION = TaskColumns(
    headline="accuracy",
    unit="%",
    reference="KD",
    axis="Test accuracy after the last epoch (%)",
    meaning="Top-1 test accuracy after the last epoch",
    others=(
        ScoreColumn(
            "ece",
            "ECE",
            "%",
            2,
            100.0,
            "ascending",
            lambda run_set: _mean(scores.ece for scores in run_set.classification_scores()),
            "Expected calibration error with 15 equal-width bins: how far confidence and accuracy lie apart.",
        ),
        ScoreColumn(
            "nll",
            "NLL",
            "nats",
            3,
            1.0,
            "ascending",
            lambda run_set: _mean(scores.nll for scores in run_set.classification_scores()),
            "Mean negative log-likelihood of the true class, in nats.",
            in_terminal=False,
        ),
        ScoreColumn(
            "agreement",
            "agreement",
            "%",
            2,
            100.0,
            "descending",
            lambda run_set: _mean(scores.agreement for scores in run_set.classification_scores()),
            "Share of the test samples on which student and teacher predict the same class.",
        ),
    ),
)

_DETECTION = TaskColumns(
    headline="AP",
    unit="%",
    reference=PLAIN,
    axis="Test AP after the last epoch (%)",
    meaning=(
        "COCO's average precision of the boxes on the test images after the last epoch, mean over the classes "
        "and the IoUs from 0.5 to 0.95"
    ),
    others=(
        _precision("ap_50", "AP50", "AP at an IoU of 0.5."),
        _precision("ap_75", "AP75", "AP at an IoU of 0.75."),
        _precision("ap_small", "AP S", "AP of objects below 32² pixels.", in_terminal=False),
        _precision("ap_medium", "AP M", "AP of objects from 32² to 96² pixels.", in_terminal=False),
        _precision("ap_large", "AP L", "AP of objects above 96² pixels.", in_terminal=False),
        _precision("ar_100", "AR", "Average recall with up to 100 detections an image.", in_terminal=False),
    ),
)

_TASKS: dict[TaskName, TaskColumns] = {"classification": _CLASSIFICATION, "detection": _DETECTION}
