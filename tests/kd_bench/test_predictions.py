from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kd_bench import predictions as module
from kd_bench.errors import UserError
from kd_bench.predictions import Predictions, read_predictions, write_predictions
from kd_bench.storage import file_sha256
from kd_bench.training.evaluate import score
from torchmetrics.functional.classification import multiclass_calibration_error


def _logits(classes: int = 10) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(classes, (500,), generator=generator)
    student, teacher = torch.randn(2, 500, classes, generator=generator)
    return 2 * (student + 2 * F.one_hot(label, classes)), label, teacher + 3 * F.one_hot(label, classes)


def test_every_score_follows_from_the_file(tmp_path: Path) -> None:
    logits, label, teacher = _logits()
    write_predictions(tmp_path / "p.npz", Predictions.from_logits(logits, label, teacher))
    found = score(read_predictions(tmp_path / "p.npz"))
    assert found.accuracy == (logits.argmax(-1) == label).double().mean()
    assert found.agreement == (logits.argmax(-1) == teacher.argmax(-1)).double().mean()
    assert found.nll == pytest.approx(F.cross_entropy(logits.double(), label).item(), rel=1e-6)
    expected = multiclass_calibration_error(logits.softmax(-1), label, num_classes=10, n_bins=15, norm="l1")
    assert found.ece == pytest.approx(expected.item(), abs=1e-6)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    found = score(Predictions.from_logits(logits, torch.tensor([1, 1]), logits))
    assert found.nll == pytest.approx(1e4)
    assert found.accuracy == 0.5


def test_equal_predictions_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_predictions(tmp_path / name, Predictions.from_logits(*_logits()))
    assert file_sha256(tmp_path / "a.npz") == file_sha256(tmp_path / "b.npz")


def test_classes_take_one_byte_while_they_fit() -> None:
    assert Predictions.from_logits(*_logits(256)).predicted.dtype == np.uint8
    assert Predictions.from_logits(*_logits(257)).predicted.dtype == np.uint16


def _arrays() -> dict[str, np.ndarray]:
    made = Predictions.from_logits(*_logits())
    names = ("predicted", "label", "teacher_predicted", "confidence", "label_log_probability")
    return {name: getattr(made, name) for name in names}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"extra": np.zeros(500)}, "expected the arrays"),
        ({"label": np.zeros(499, np.uint8)}, "vectors of one length"),
        ({"predicted": np.zeros(500, np.int64)}, "predicted must be uint8"),
        ({"confidence": np.full(500, np.nan, np.float32)}, "confidence must be finite"),
        ({"label": np.array([{}] * 500, dtype=object)}, "cannot read"),
    ],
)
def test_other_content_is_refused(change: dict[str, np.ndarray], problem: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **(_arrays() | change))
    (tmp_path / "p.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=problem):
        read_predictions(tmp_path / "p.npz")


def test_corrupt_and_oversized_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.npz"
    write_predictions(path, Predictions.from_logits(*_logits()))
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(UserError, match="cannot read"):
        read_predictions(path)
    path.write_bytes(whole)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="unpacks to"):
        read_predictions(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("label.npy", b"not an array")
    with pytest.raises(UserError, match=r"cannot read|does not hold"):
        read_predictions(path)
