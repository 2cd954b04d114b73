"""The reliability diagram: how often predictions of a given confidence are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_bench.errors import UserError
from kd_bench.predictions import Predictions, read_predictions
from kd_bench.results import RUN_SET_FILE, RunSet, slug
from kd_bench.storage import file_sha256

BINS = 15

Place = tuple[str, str, str]
"""Protocol, method and pair of a run set as directory names."""


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

    def rounded(self) -> dict[str, float]:
        """The values as the page stores them."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


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


def find_folders(results: Path) -> dict[Place, Path]:
    """Where the run sets below ``results`` lie, by what their folders are called."""
    folders = (path.parent for path in sorted(results.rglob(RUN_SET_FILE)))
    return {_place(folder.absolute().parts): folder for folder in folders}


def reliability_entry(run_set: RunSet, folders: Mapping[Place, Path]) -> dict[str, Any] | None:
    """What the page needs to draw the diagram of one run set.

    Args:
        run_set: the run set.
        folders: see :func:`find_folders`.

    Returns:
        Name, a sentence that sums the diagram up, and the bins; ``None`` where there are no predictions files.

    Raises:
        UserError: if a predictions file is missing beside its run set, is corrupt, or is not the one that was written
            by the run.
    """
    folder = folders.get((slug(run_set.protocol.id), slug(run_set.method.name), run_set.pair))
    if folder is None:
        return None
    runs = []
    for run in run_set.runs:
        path = folder / run.predictions_file
        predictions = read_predictions(path)
        if file_sha256(path) != run.predictions_sha256:
            raise UserError(
                f"{path} is not the file that the run wrote: its sha256 differs from the one in "
                f"{folder / RUN_SET_FILE}. Restore both files or run the benchmark again."
            )
        runs.append(predictions)
    bins = reliability_bins(runs)
    bias = sum(item.share * (item.confidence - item.accuracy) for item in bins)
    tendency = "over-confident" if bias > 0 else "under-confident"
    summary = f"pooled ECE {100 * calibration_error(bins):.2f} %, {tendency} by {100 * abs(bias):.2f} % on average"
    return {"name": run_set.method.name, "summary": summary, "bins": [item.rounded() for item in bins]}


def _place(parts: tuple[str, ...]) -> Place:
    protocol, method, pair = parts[-3:]
    return protocol, method, pair
