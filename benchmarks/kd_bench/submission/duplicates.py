"""Whether predictions were made anew, or are those of another seed or method, perhaps slightly changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_bench.detection.detections import Detections
from kd_bench.predictions import Predictions

SAMPLES = 512
"""Places of the test set that are compared."""

_CLOSE = 1e-3
_CLOSE_TO_REST = 0.05
_SHARE = 0.5
_CERTAIN = 1e-4
_ENOUGH = 20


@dataclass(frozen=True)
class Signature:
    """What tells the predictions of two trainings apart, however small they are.

    Attributes:
        place: which samples or images, ascending.
        label: predicted class of each, or that of the best detection.
        value: ``(P, V)`` what is different after every training: the label's log-probability; score and box.
    """

    place: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]

    def same_training(self, other: Signature) -> bool:
        """Whether two sets of predictions agree so closely that one was made from the other.

        Students of one method and two seeds agree to three digits in one probability of fifty, at most; copies whose
        values were touched, or of which some were left out, in more than every second.
        """
        with np.errstate(all="ignore"):  # infinite and undefined values are another rule's to refuse
            return self._same_training(other)

    def _same_training(self, other: Signature) -> bool:
        common, mine, theirs = np.intersect1d(self.place, other.place, assume_unique=True, return_indices=True)
        if len(common) < _SHARE * max(len(self.place), len(other.place), 1):
            return False
        ours, others = self.value[mine], other.value[theirs]
        size = np.maximum(np.abs(ours), np.abs(others))
        # trainings that went nowhere predict nearly the same for every sample, and differ in what is left
        left = np.maximum(np.abs(ours - np.median(ours, axis=0)), np.abs(others - np.median(others, axis=0)))
        apart = np.abs(ours - others)
        close = ((apart <= _CLOSE * size + 1e-7) & (apart <= _CLOSE_TO_REST * left)).all(axis=1)
        # two networks that are both certain agree without knowing of each other
        telling = (size > _CERTAIN).any(axis=1)
        if telling.sum() < _ENOUGH:
            return np.array_equal(ours, others) and np.array_equal(self.label[mine], other.label[theirs])
        agreeing = close & (self.label[mine] == other.label[theirs])
        return bool(agreeing[telling].mean() >= _SHARE)


def signature(found: Predictions | Detections) -> Signature:
    """The signature of what is stored of a run.

    Args:
        found: its predictions or detections.
    """
    if isinstance(found, Detections):
        # the best of each image: detections are in the order of images and of falling scores
        place, first = np.unique(found.image_id, return_index=True)
        chosen = _spread(len(place))
        first = first[chosen]
        value = np.concatenate([found.score[first, None], found.box[first]], axis=1)
        return Signature(place[chosen].astype(np.int64), found.label[first].astype(np.int64), value.astype(np.float64))
    chosen = _spread(len(found.predicted))
    value = found.label_log_probability[chosen, None].astype(np.float64)
    return Signature(chosen, found.predicted[chosen].astype(np.int64), value)


def _spread(size: int) -> npt.NDArray[Any]:
    return np.unique(np.linspace(0, max(size - 1, 0), min(size, SAMPLES)).astype(np.int64))
