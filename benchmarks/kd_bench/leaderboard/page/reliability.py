"""The reliability diagram: how often predictions of a given confidence are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_bench.entries import Entry
from kd_bench.leaderboard.page.files import check_written_by_run, prediction_files
from kd_bench.predictions import Predictions, read_predictions

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Samples whose confidence lies in ``(low, high]``.

    Attributes:
        low: lower edge.
        high: upper edge.
        confidence: mean confidence; 0 if the bin is empty.
        accuracy: share of right predictions; 0 if the bin is empty.
        share: share of all samples that fall into the bin.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    share: float


def reliability_bins(runs: Sequence[Predictions], bins: int = BINS) -> list[Bin]:
    """Pool the predictions of several runs and bin them by confidence.

    Args:
        runs: predictions of at least one run.
        bins: number of equal-width bins.

    Returns:
        All bins from 0 to 1, empty ones included.
    """
    confidence = np.concatenate([run.confidence for run in runs]).astype(np.float64)
    correct = np.concatenate([run.correct for run in runs]).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    divisor = np.maximum(count, 1)
    mean_confidence = np.bincount(index, confidence, minlength=bins) / divisor
    accuracy = np.bincount(index, correct, minlength=bins) / divisor
    return [
        Bin(
            position / bins,
            (position + 1) / bins,
            float(mean_confidence[position]),
            float(accuracy[position]),
            float(count[position] / len(confidence)),
        )
        for position in range(bins)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error of the binned samples."""
    return sum(item.share * abs(item.accuracy - item.confidence) for item in bins)


def reliability_summary(entry: Entry) -> list[Any] | None:
    """What the page needs to draw the diagram of one entry.

    Args:
        entry: of a classifier.

    Returns:
        Pooled calibration error, how far confidence lies above accuracy on average, and the bins that are not empty as
        ``[number, mean confidence, accuracy, share]``; ``None`` where there are no predictions files.

    Raises:
        UserError: if one of several predictions files is missing, is corrupt, or is not the one that was written by
            the run.
    """
    runs = []
    for run, path in prediction_files(entry):
        runs.append(read_predictions(path))
        check_written_by_run(path, run)
    if not runs:
        return None
    bins = reliability_bins(runs)
    bias = sum(item.share * (item.confidence - item.accuracy) for item in bins)
    filled = [
        [number, round(item.confidence, 4), round(item.accuracy, 4), round(item.share, 5)]
        for number, item in enumerate(bins)
        if item.share > 0
    ]
    return [round(calibration_error(bins), 6), round(bias, 6), filled]
