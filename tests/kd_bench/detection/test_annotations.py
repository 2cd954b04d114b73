from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kd_bench.detection.annotations import Annotations, check_files, read_annotations
from kd_bench.detection.boxes import usable_boxes
from kd_bench.detection.categories import Categories
from kd_bench.errors import UserError

Read = Callable[[Any], Annotations]


def test_arrays_are_in_the_order_of_the_images_ids(content: Any, read: Read) -> None:
    found = read(content)
    assert found.image_id.tolist() == [4, 9]
    assert [found.name(0), found.name(1)] == ["a.png", "b.png"]
    assert (found.width.tolist(), found.height.tolist()) == ([100, 60], [80, 40])
    assert found.image.tolist() == [0, 0, 1]
    assert found.categories == Categories((3, 7), ("ant", "zebra"))
    assert found.label.tolist() == [0, 1, 1]
    assert found.box.tolist() == [[10, 10, 30.5, 20], [0, 0, 50, 50], [5, 5, 10, 20]]
    assert (found.area.tolist(), found.crowd.tolist()) == ([500.5, 2500, 200], [False, True, False])


def test_a_subset_keeps_the_objects_of_its_images(content: Any, read: Read) -> None:
    found = read(content).subset(np.array([1]))
    assert (found.image_id.tolist(), found.name(0), len(found)) == ([9], "b.png", 1)
    assert (found.image.tolist(), found.box.tolist(), found.crowd.tolist()) == ([0], [[5, 5, 10, 20]], [False])


def test_the_checksum_covers_what_is_read_and_nothing_else(content: Any, read: Read) -> None:
    first = read(content).checksum()
    shuffled = copy.deepcopy(content)
    shuffled["images"].reverse()
    shuffled["categories"].reverse()
    assert read({**shuffled, "info": {"year": 2017}}).checksum() == first
    for part, key, value in (
        ("images", "file_name", "c.png"),
        ("images", "width", 61),
        ("annotations", "bbox", [5, 5, 10, 21]),
        ("annotations", "iscrowd", 1),
        ("annotations", "area", 199),
        ("categories", "name", "yak"),
    ):
        changed = copy.deepcopy(content)
        changed[part][0][key] = value
        assert read(changed).checksum() != first, key


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("images", {"id": 4}, r"1 ids more than once in images: 4\."),
        ("annotations", {"id": 31}, r"more than once in annotations: 31\."),
        ("categories", {"id": 3}, "more than once in categories: 3"),
        ("categories", {"name": "ant"}, "2 of 2 categories have a name that another one has"),
        ("categories", {"id": 0}, "id below 1"),
        ("annotations", {"image_id": 8}, r"refer to images that the file does not list; their ids are 70\."),
        ("annotations", {"category_id": 4}, "refer to categories that the file does not list; their ids are 70"),
        ("annotations", {"bbox": [1, 2, 3]}, "bbox that is not four numbers; their ids are 70"),
        ("annotations", {"bbox": [1, 2, 3, "4"]}, "bbox that is not four numbers"),
        ("annotations", {"bbox": None}, r"entry 0 of annotations \(id 70\) has bbox = None; expected a list"),
        ("annotations", {"bbox": [1, 2, -3, 4]}, "negative width or height"),
        ("annotations", {"bbox": [1, 2, float("nan"), 4]}, "not finite"),
        ("annotations", {"area": -1}, "area below 0"),
        ("annotations", {"iscrowd": 2}, "iscrowd other than 0 and 1"),
        ("images", {"width": 0}, "width that is not positive"),
        ("images", {"width": "60"}, "width = '60'; expected a whole number"),
        ("images", {"id": 2**70}, "too large"),
        ("images", {"file_name": "../b.png"}, r"does not lead to a file inside the folder of the images: \.\./b.png"),
        ("images", {"file_name": "/etc/passwd"}, "does not lead"),
        ("images", {"file_name": ""}, "does not lead"),
    ],
)
def test_a_wrong_entry_is_named(part: str, change: dict[str, Any], message: str, content: Any, read: Read) -> None:
    content[part][0].update(change)
    with pytest.raises(UserError, match=message) as caught:
        read(content)
    assert "instances.json" in str(caught.value)


@pytest.mark.parametrize("key", ["id", "image_id", "bbox", "area"])
def test_a_missing_value_is_named(key: str, content: Any, read: Read) -> None:
    del content["annotations"][1][key]
    with pytest.raises(UserError, match=f"entry 1 of annotations .* has {key} = None"):
        read(content)


def test_without_iscrowd_an_object_is_a_single_one(content: Any, read: Read) -> None:
    del content["annotations"][2]["iscrowd"]
    assert not read(content).crowd.any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"images": [', "is not JSON"),
        ("[]", "expected an object with the lists images, annotations, categories, found list"),
        ({"images": [], "annotations": []}, "expected an object with the lists"),
        ({"images": [], "annotations": [], "categories": []}, "lists no images"),
        ({"images": [7], "annotations": [], "categories": [{"id": 1, "name": "a"}]}, "entry 0 of images"),
    ],
)
def test_other_files_are_refused(given: Any, message: str, read: Read) -> None:
    with pytest.raises(UserError, match=message):
        read(given)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the annotations .*nowhere.json"):
        read_annotations(tmp_path / "nowhere.json")


def test_missing_images_are_named(content: Any, read: Read, tmp_path: Path) -> None:
    content["images"][0]["file_name"] = "deeper/b.png"
    found = read(content)
    (tmp_path / "images" / "deeper").mkdir(parents=True)
    (tmp_path / "images" / "deeper" / "b.png").touch()
    with pytest.raises(UserError, match=r"lacks 1 of the 2 images .*: a.png\. Unpack"):
        check_files(found, tmp_path / "images")
    (tmp_path / "images" / "a.png").touch()
    check_files(found, tmp_path / "images")
    with pytest.raises(UserError, match="cannot read the folder"):
        check_files(found, tmp_path / "no")


def test_what_can_be_trained_on_is_inside_and_solid(content: Any, read: Read) -> None:
    extra = [
        [90, 70, 30, 30],  # beyond the corner
        [-5, -2, 10, 10],
        [100, 0, 10, 10],  # beside the image, touching it
        [-20, 10, 15, 5],
        [10, 10, 0, 5],
        [99.99999999, 10, 0.00000001, 5],  # nothing in single precision
    ]
    content["annotations"] += [
        {"id": 100 + number, "image_id": 4, "category_id": 3, "bbox": box, "area": 1, "iscrowd": 0}
        for number, box in enumerate(extra)
    ]
    content["images"].append({"id": 5, "file_name": "c.png", "width": 10, "height": 10})
    boxes = usable_boxes(read(content))
    corners, labels = boxes.of(0)
    assert corners.tolist() == [[10, 10, 40.5, 30], [90, 70, 100, 80], [0, 0, 5, 8]]
    assert (corners.dtype, labels.tolist()) == (np.float32, [0, 0, 0])
    assert boxes.of(1)[0].shape == (0, 4)
    assert (boxes.of(2)[0].tolist(), boxes.of(2)[1].tolist()) == ([[5, 5, 15, 25]], [1])
    assert str(boxes.counts) == (
        "4 boxes in 2 of 3 images (2 cut at the image's edge); left out: 1 crowds, 1 without area, 3 outside of their "
        "image"
    )


def test_classes_are_numbered_as_torchvision_does() -> None:
    animals = Categories((2, 5, 6), ("ant", "bee", "cat"))
    assert (animals.torchvision_classes("contiguous"), animals.torchvision_classes("ids")) == (4, 7)
    for numbering in ("contiguous", "ids"):
        labels = animals.for_torchvision(numbering)
        assert animals.from_torchvision(labels, numbering).tolist() == [0, 1, 2]
    assert animals.from_torchvision(np.array([0, 3, 4, 7, -1, 5]), "ids").tolist() == [-1, -1, -1, -1, -1, 1]
    with pytest.raises(UserError, match="unknown numbering of classes 'coco'"):
        animals.for_torchvision("coco")  # type: ignore[arg-type]


def test_the_public_reader_finds_the_same(coco_parameters: dict[str, Any]) -> None:
    """pycocotools is the reference for what the format means."""
    coco = pytest.importorskip("pycocotools.coco")
    path = Path(coco_parameters["root"], "annotations", "instances_train2017.json")
    found, known = read_annotations(path), coco.COCO(str(path))
    assert found.image_id.tolist() == sorted(known.getImgIds())
    assert list(found.categories.ids) == sorted(known.getCatIds())
    for position, id_ in enumerate(found.image_id.tolist()):
        own = found.image == position
        expected = known.loadAnns(known.getAnnIds(imgIds=[id_]))
        assert found.box[own].tolist() == [item["bbox"] for item in expected]
        ids = np.array(found.categories.ids)[found.label[own]]
        assert ids.tolist() == [item["category_id"] for item in expected]
    assert json.loads(path.read_text())["annotations"]
