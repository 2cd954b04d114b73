from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from kd_bench.detection import evaluate as module
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.detections import Detections
from kd_bench.detection.evaluate import RECALLS, CocoMetrics, evaluate
from kd_bench.errors import UserError

Read = Callable[[Any], Annotations]
Make = Callable[[int], Any]

BACKENDS = ("faster-coco-eval", "pycocotools")


def detections(annotations: Annotations, rows: list[tuple[int, int, float, list[float]]]) -> Detections:
    """Rows of image id, label, score and corners."""
    found = [
        (image, {"labels": torch.tensor([label + 1]), "scores": torch.tensor([score]), "boxes": torch.tensor([box])})
        for image, label, score, box in rows
    ]
    return Detections.of_images(found, annotations.categories)


def random_detections(annotations: Annotations, seed: int) -> Detections:
    """Objects moved a little, partly with another class or twice, and boxes around nothing; many scores are equal."""
    random = np.random.default_rng(seed)
    rows: list[tuple[int, int, float, list[float]]] = []
    for place in range(len(annotations.box)):
        x, y, width, height = annotations.box[place]
        for _ in range(int(random.integers(0, 3))):
            moved = np.array([x, y, x + width, y + height]) + random.normal(0, 0.08, 4) * np.tile([width, height], 2)
            label = annotations.label[place] if random.random() < 0.85 else random.integers(5)
            rows.append((int(annotations.image_id[annotations.image[place]]), int(label), 0.0, moved.tolist()))
    for _ in range(60):
        x, y = random.uniform(0, 250, 2)
        width, height = random.uniform(1, 120, 2)
        image = int(random.choice(annotations.image_id[1:]))
        rows.append((image, int(random.integers(5)), 0.0, [x, y, x + width, y + height]))
    rows = [(image, label, float(random.integers(1, 11)) / 10, box) for image, label, _, box in rows]
    rows = [(image, label, score, np.maximum(box, [*box[:2], *box[:2]]).tolist()) for image, label, score, box in rows]
    return detections(annotations, rows)


@pytest.mark.parametrize("seed", range(4))
def test_both_backends_agree(seed: int, random_content: Make, read: Read) -> None:
    annotations = read(random_content(seed))
    assert annotations.crowd.any()
    found = random_detections(annotations, seed)
    fast, reference = (evaluate(annotations, found, backend) for backend in BACKENDS)
    for value, expected in zip(fast.stats(), reference.stats(), strict=True):
        assert value is not None
        assert value == pytest.approx(expected, abs=1e-12)
        assert 0 < value <= 1
    assert fast.class_ap.keys() == reference.class_ap.keys()
    for name, ap in reference.class_ap.items():
        assert fast.class_ap[name] == pytest.approx(ap, abs=1e-12)
    assert fast.class_ap["class 4"] is None
    for curve, expected_curve in zip(asdict(fast.curves).values(), asdict(reference.curves).values(), strict=True):
        assert curve == pytest.approx(expected_curve, abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_curves_and_the_classes_explain_the_ap(backend: Any, random_content: Make, read: Read) -> None:
    annotations = read(random_content(9))
    found = evaluate(annotations, random_detections(annotations, 9), backend)
    assert np.mean(found.curves.mean) == pytest.approx(found.ap, abs=1e-12)
    assert np.mean(found.curves.iou_50) == pytest.approx(found.ap_50, abs=1e-12)
    assert np.mean(found.curves.iou_75) == pytest.approx(found.ap_75, abs=1e-12)
    assert np.mean([ap for ap in found.class_ap.values() if ap is not None]) == pytest.approx(found.ap, abs=1e-12)


def test_pycocotools_by_its_own_way_finds_the_same(random_content: Make, read: Read) -> None:
    """As its documentation uses it: a result list in COCO's format."""
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    annotations = read(random_content(5))
    found = random_detections(annotations, 5)
    truth = coco.COCO(str(annotations.path))
    for annotation in truth.dataset["annotations"]:
        annotation["id"] += 1  # it does not count an object with the id 0
    truth.createIndex()
    ids = annotations.categories.ids
    results = [
        {
            "image_id": int(image),
            "category_id": ids[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": float(score),
        }
        for image, label, score, box in zip(
            found.image_id, found.label, found.score, found.box.astype(float).tolist(), strict=True
        )
    ]
    run = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    assert evaluate(annotations, found).stats() == pytest.approx(run.stats.tolist(), abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
class TestByHand:
    def test_nothing_found_is_zero(self, backend: Any, content: Any, read: Read) -> None:
        annotations = read(content)
        found = evaluate(annotations, detections(annotations, []), backend)
        # the objects have 500.5 and 200 pixels; the crowd does not count
        assert found.stats() == (0, 0, 0, 0, None, None, 0, 0, 0, 0, None, None)
        assert found.class_ap == {"ant": 0, "zebra": 0}
        assert set(found.curves.mean) == {0.0}
        assert len(found.curves.mean) == len(RECALLS) == 101

    def test_everything_found_is_one(self, backend: Any, content: Any, read: Read) -> None:
        content["annotations"][0]["id"] = 0
        annotations = read(content)
        rows = [(4, 0, 0.9, [10.0, 10, 40.5, 30]), (9, 1, 0.8, [5.0, 5, 15, 25])]
        found = evaluate(annotations, detections(annotations, rows), backend)
        assert found.stats() == pytest.approx((1, 1, 1, 1, None, None, 1, 1, 1, 1, None, None))

    def test_an_overlap_of_two_thirds_counts_at_four_of_ten_thresholds(
        self, backend: Any, content: Any, read: Read
    ) -> None:
        annotations = read(content)
        # 10 x 20 of 10 x 30 pixels: right at 0.5, 0.55, 0.6 and 0.65
        found = evaluate(annotations, detections(annotations, [(9, 1, 0.8, [5.0, 5, 15, 35])]), backend)
        assert (found.class_ap["ant"], found.class_ap["zebra"]) == (0, pytest.approx(0.4))
        assert (found.ap, found.ap_50, found.ap_75) == pytest.approx((0.2, 0.5, 0.0))
        assert found.ar_100 == pytest.approx(0.2)

    def test_a_false_alarm_before_the_object_halves_the_precision(self, backend: Any, content: Any, read: Read) -> None:
        annotations = read(content)
        rows = [(9, 1, 0.9, [30.0, 5, 50, 25]), (9, 1, 0.8, [5.0, 5, 15, 25])]
        found = evaluate(annotations, detections(annotations, rows), backend)
        assert found.class_ap["zebra"] == pytest.approx(0.5)
        assert (found.ar_1, found.ar_10) == pytest.approx((0.0, 0.5))

    def test_what_lies_in_a_crowd_is_no_false_alarm(self, backend: Any, content: Any, read: Read) -> None:
        annotations = read(content)
        inside = [(4, 1, 0.9 - 0.1 * step, [5.0 * step, 10, 5.0 * step + 9, 20]) for step in range(3)]
        found = evaluate(annotations, detections(annotations, [*inside, (9, 1, 0.3, [5.0, 5, 15, 25])]), backend)
        assert found.class_ap["zebra"] == pytest.approx(1)

    def test_without_objects_there_is_no_metric(self, backend: Any, content: Any, read: Read) -> None:
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1
        annotations = read(content)
        with pytest.raises(UserError, match="no objects but crowds"):
            evaluate(annotations, detections(annotations, []), backend)


def test_the_order_in_which_images_were_searched_does_not_matter(random_content: Make, read: Read) -> None:
    annotations = read(random_content(3))
    found = random_detections(annotations, 3)
    per_image = [
        (int(id_), {"labels": own.label.astype(int) + 1, "scores": own.score, "boxes": own.box})
        for id_ in annotations.image_id
        for own in [found.of_image(int(id_))]
    ]
    items = [(id_, {key: torch.as_tensor(value) for key, value in item.items()}) for id_, item in per_image]
    again = Detections.of_images(reversed(items), annotations.categories)
    for key, value in asdict(found).items():
        assert np.array_equal(getattr(again, key), value), key


def test_foreign_detections_and_unknown_backends_are_refused(content: Any, read: Read) -> None:
    annotations = read(content)
    with pytest.raises(UserError, match="there is no image with the id 5"):
        evaluate(annotations, detections(annotations, [(5, 0, 0.5, [0.0, 0, 1, 1])]))
    with pytest.raises(UserError, match="unknown backend of COCO's metrics 'fast'"):
        evaluate(annotations, detections(annotations, []), "fast")  # type: ignore[arg-type]


def test_without_any_backend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'lightning-kd\[detection\]'"):
        module.choose_backend()
    monkeypatch.setattr(module, "find_spec", lambda name: name == "pycocotools" or None)
    assert module.choose_backend() == "pycocotools"


def test_metrics_are_plain_numbers(content: Any, read: Read) -> None:
    annotations = read(content)
    found: CocoMetrics = evaluate(annotations, detections(annotations, []))
    assert {type(value) for value in found.stats()} == {float, type(None)}
