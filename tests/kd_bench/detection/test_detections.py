from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kd_bench.detection import detections as module
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.categories import Categories
from kd_bench.detection.detections import MAX_DETECTIONS, Detections, read_detections, write_detections
from kd_bench.detection.evaluate import evaluate
from kd_bench.errors import UserError
from kd_bench.storage import file_sha256

Read = Callable[[Any], Annotations]

ANIMALS = Categories((3, 7), ("ant", "zebra"))


def found_on(seed: int, count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner, size = 30 * torch.rand(2, count, 2, generator=generator)
    return {
        "boxes": torch.cat([corner, corner + size], dim=1),
        "scores": torch.rand(count, generator=generator),
        "labels": torch.randint(1, 3, (count,), generator=generator),
    }


def both() -> Detections:
    return Detections.of_images([(9, found_on(0, 30)), (4, found_on(1, 30))], ANIMALS)


def test_the_best_of_each_image_are_kept_in_order() -> None:
    given = found_on(0, 150)
    found = Detections.of_images([(9, given), (4, found_on(1, 3)), (6, found_on(2, 0))], ANIMALS)
    assert found.image_id.tolist() == [4] * 3 + [9] * MAX_DETECTIONS
    score, order = given["scores"].sort(descending=True, stable=True)
    assert found.score[3:].tolist() == score[:100].tolist()
    assert found.box[3:].tolist() == given["boxes"][order[:100]].tolist()
    assert found.label[3:].tolist() == (given["labels"][order[:100]] - 1).tolist()
    assert {key: array.dtype for key, array in asdict(found).items()} == {
        "image_id": np.int64,
        "label": np.uint16,
        "score": np.float32,
        "box": np.float32,
    }


def test_labels_without_a_class_do_not_take_a_place() -> None:
    given = found_on(0, 150)
    given["labels"] = torch.tensor([0, 3, 5, 7, 9] * 30)
    found = Detections.of_images([(9, given)], ANIMALS, "ids")
    assert len(found) == 60
    assert set(found.label.tolist()) == {0, 1}


def test_nothing_at_all_is_fine(tmp_path: Path, content: Any, read: Read) -> None:
    empty = Detections.of_images([], ANIMALS)
    write_detections(tmp_path / "d.npz", empty)
    assert len(read_detections(tmp_path / "d.npz", read(content))) == 0


def test_half_precision_becomes_single(content: Any, read: Read) -> None:
    given = {key: value.half() if value.is_floating_point() else value for key, value in found_on(0, 5).items()}
    assert evaluate(read(content), Detections.of_images([(9, given)], ANIMALS)).ap >= 0


def test_metrics_follow_exactly_from_the_file(tmp_path: Path, content: Any, read: Read) -> None:
    annotations = read(content)
    near = {
        "boxes": torch.tensor([[10.3, 9.1, 41, 31], [0, 0, 60, 60], [11, 10, 40, 29.5]]),
        "scores": torch.tensor([0.7, 0.2, 0.7]),
        "labels": torch.tensor([1, 2, 1]),
    }
    found = Detections.of_images([(4, near), (9, found_on(0, 20))], annotations.categories)
    write_detections(tmp_path / "d.npz", found)
    again = read_detections(tmp_path / "d.npz", annotations)
    for key, array in asdict(found).items():
        assert np.array_equal(getattr(again, key), array)
    assert evaluate(annotations, again) == evaluate(annotations, found)
    assert 0 < evaluate(annotations, found).ap < 1


def test_equal_detections_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_detections(tmp_path / name, both())
    assert file_sha256(tmp_path / "a.npz") == file_sha256(tmp_path / "b.npz")


def test_those_of_one_image_above_a_score() -> None:
    found = both().of_image(4, 0.5)
    assert set(found.image_id.tolist()) == {4}
    assert found.score.tolist() == [score for score in both().score[:30].tolist() if score >= 0.5]
    assert len(found.box) == len(found.label) == len(found)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"extra": np.zeros(60)}, "expected the arrays image_id, label, score, box, found"),
        ({"label": np.zeros(59, np.uint16)}, r"label must be uint16 of shape \(60,\), found uint16 \(59,\)"),
        ({"label": np.zeros(60, np.int64)}, "label must be uint16"),
        ({"label": np.full(60, 2, np.uint16)}, "labels must be below 2"),
        ({"score": np.full(60, np.nan, np.float32)}, "scores must be between 0 and 1"),
        ({"score": np.full(60, 1.5, np.float32)}, "scores must be between 0 and 1"),
        ({"score": np.float32(1)}, r"must be int64 of shape \(\)"),
        ({"score": np.linspace(0, 1, 60, dtype=np.float32)}, "in the order of"),
        ({"image_id": np.arange(60)[::-1].astype(np.int64)}, "in the order of"),
        ({"image_id": np.full(60, 5)}, "in the order of|no image with the id 5"),
        ({"box": np.full((60, 4), np.inf, np.float32)}, "boxes must be finite"),
        ({"box": np.tile(np.array([5, 5, 4, 6], np.float32), (60, 1))}, "x1 <= x2"),
        ({"box": np.zeros((60, 5), np.float32)}, "box must be float32 of shape"),
        ({"score": np.array([{}] * 60, dtype=object)}, "cannot read"),
    ],
)
def test_other_content_is_refused(
    change: dict[str, np.ndarray], problem: str, tmp_path: Path, content: Any, read: Read
) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{**asdict(both()), **change})
    (tmp_path / "d.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=problem):
        read_detections(tmp_path / "d.npz", read(content))


def test_too_many_on_an_image_are_refused(tmp_path: Path, content: Any, read: Read) -> None:
    many = MAX_DETECTIONS + 1
    found = Detections(
        np.full(many, 4), np.zeros(many, np.uint16), np.zeros(many, np.float32), np.zeros((many, 4), np.float32)
    )
    write_detections(tmp_path / "d.npz", found)
    with pytest.raises(UserError, match="image 4 has more than 100 detections"):
        read_detections(tmp_path / "d.npz", read(content))


def test_corrupt_and_oversized_files_are_refused(
    tmp_path: Path, content: Any, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, annotations = tmp_path / "d.npz", read(content)
    write_detections(path, both())
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(UserError, match="cannot read"):
        read_detections(path, annotations)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("label.npy", b"not an array")
    with pytest.raises(UserError, match=r"cannot read|does not hold"):
        read_detections(path, annotations)
    path.write_bytes(whole)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="unpacks to"):
        read_detections(path, annotations)
