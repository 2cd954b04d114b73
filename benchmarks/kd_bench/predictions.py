"""Per-sample test predictions, kept compactly so that anyone can recompute every score of a run."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kd_bench.errors import UserError
from kd_bench.storage import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 50_000_000
_KEYS = ("predicted", "label", "teacher_predicted", "confidence", "label_log_probability")

Labels = npt.NDArray[np.unsignedinteger[Any]]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """What a student said about the test set, in the order of the data set.

    Attributes:
        predicted: predicted class, ``(N,)``, uint8 (uint16 from 257 classes on).
        label: true class, ``(N,)``.
        teacher_predicted: class that the teacher predicts, ``(N,)``.
        confidence: probability of the predicted class, ``(N,)``.
        label_log_probability: logarithm of the true class's probability, ``(N,)``; the logarithm, because the
            probability of a confident mistake can be too small for a float.
    """

    predicted: Labels
    label: Labels
    teacher_predicted: Labels
    confidence: Floats
    label_log_probability: Floats

    @classmethod
    def from_logits(cls, logits: Tensor, label: Tensor, teacher_logits: Tensor) -> Predictions:
        """Reduce student and teacher logits ``(N, C)`` and labels ``(N,)`` to what is kept."""
        import torch  # reading predictions does without it, which takes seconds to import

        log_probabilities = torch.log_softmax(logits.double(), dim=-1)
        confidence, predicted = log_probabilities.exp().max(dim=-1)
        of_label = log_probabilities.gather(-1, label[:, None]).squeeze(-1)
        dtype: type[np.unsignedinteger[Any]] = np.uint8 if logits.shape[-1] <= 256 else np.uint16
        return cls(
            predicted=predicted.numpy().astype(dtype),
            label=label.numpy().astype(dtype),
            teacher_predicted=teacher_logits.argmax(dim=-1).numpy().astype(dtype),
            confidence=confidence.numpy().astype(np.float32),
            label_log_probability=of_label.numpy().astype(np.float32),
        )

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each prediction is right, ``(N,)``."""
        return np.asarray(self.predicted == self.label)

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return float(self.correct.mean())

    @property
    def agreement(self) -> float:
        """Share of samples on which student and teacher predict the same class."""
        return float(np.mean(self.predicted == self.teacher_predicted))

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood in nats."""
        return max(0.0, float(-self.label_log_probability.astype(np.float64).mean()))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a compressed ``.npz`` atomically. Equal predictions give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        predicted=predictions.predicted,
        label=predictions.label,
        teacher_predicted=predictions.teacher_predicted,
        confidence=predictions.confidence,
        label_log_probability=predictions.label_log_probability,
    )
    write_atomic(path, buffer.getvalue())


def read_predictions(path: Path) -> Predictions:
    """Read a predictions file; it is untrusted input, so nothing is unpickled and its size is bounded.

    Raises:
        UserError: if the file is missing, too large, corrupt, or holds other arrays than expected.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise UserError(f"{path} unpacks to {size:,} bytes, at most {MAX_BYTES:,} are accepted.")
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"cannot read the predictions {path}: {error}. Run the benchmark again to restore it."
        ) from error
    problem = _problem(found)
    if problem:
        raise UserError(f"{path} does not hold predictions: {problem}. It was not written by kd_bench.")
    return Predictions(**found)


def _problem(found: dict[str, npt.NDArray[np.generic]]) -> str | None:
    if set(found) != set(_KEYS):
        return f"expected the arrays {', '.join(_KEYS)}, found {', '.join(sorted(found)) or 'none'}"
    shapes = {array.shape for array in found.values()}
    if len(shapes) != 1 or found["label"].ndim != 1 or found["label"].size == 0:
        return f"expected five vectors of one length, found the shapes {sorted(shapes)}"
    for key in ("predicted", "label", "teacher_predicted"):
        if found[key].dtype not in (np.uint8, np.uint16):
            return f"{key} must be uint8 or uint16, found {found[key].dtype}"
    for key in ("confidence", "label_log_probability"):
        if found[key].dtype != np.float32 or not np.isfinite(found[key]).all():
            return f"{key} must be finite float32, found {found[key].dtype}"
    return None
