"""Small annotation files, generated scenes and a tiny COCO, for the tests of the detection suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kd_bench.detection.annotations import Annotations, read_annotations
from kd_bench.detection.miniature_coco import write_coco
from kd_bench.detection.scenes import SceneSettings

Content = dict[str, list[dict[str, Any]]]


def small_content() -> Content:
    """Two images, categories with a gap; the file lists everything in another order than by id."""
    return {
        "images": [
            {"id": 9, "file_name": "b.png", "width": 60, "height": 40},
            {"id": 4, "file_name": "a.png", "width": 100, "height": 80},
        ],
        "annotations": [
            {"id": 70, "image_id": 9, "category_id": 7, "bbox": [5, 5, 10, 20], "area": 200, "iscrowd": 0},
            {"id": 30, "image_id": 4, "category_id": 3, "bbox": [10, 10, 30.5, 20], "area": 500.5, "iscrowd": 0},
            {"id": 31, "image_id": 4, "category_id": 7, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 1},
        ],
        "categories": [{"id": 7, "name": "zebra"}, {"id": 3, "name": "ant"}],
    }


@pytest.fixture
def content() -> Content:
    return small_content()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Annotations]:
    """Writes a file and reads it as annotations."""

    def write_and_read(content: Any) -> Annotations:
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_annotations(path)

    return write_and_read


@pytest.fixture(scope="session")
def coco_parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_coco(tmp_path_factory.mktemp("coco"), train=16, val=5)


@pytest.fixture
def few() -> SceneSettings:
    return SceneSettings(train=6, validation=3, test=4)


@pytest.fixture
def random_content() -> Callable[[int], Content]:
    return _random_content


def _random_content(seed: int, images: int = 24, classes: int = 5) -> Content:
    """Objects of all sizes, crowds, images without any, a class without any."""
    random = np.random.default_rng(seed)
    objects: list[dict[str, Any]] = []
    for image in range(images):
        for _ in range(0 if image % 6 == 0 else int(random.integers(1, 7))):
            x, y = random.uniform(0, 150, 2)
            # from 2 to 200 pixels, of moderate shapes
            width, height = 2 * 100 ** random.random() * random.uniform(0.7, 1.0, 2)
            objects.append(
                {
                    "id": len(objects),
                    "image_id": 10 + image,
                    "category_id": 5 + 3 * int(random.integers(classes - 1)),
                    "bbox": [float(x), float(y), float(width), float(height)],
                    "area": float(width * height * random.uniform(0.5, 1)),
                    "iscrowd": int(random.random() < 0.1),
                }
            )
    return {
        "images": [
            {"id": 10 + image, "file_name": f"{image}.png", "width": 320, "height": 320} for image in range(images)
        ],
        "annotations": objects,
        "categories": [{"id": 5 + 3 * label, "name": f"class {label}"} for label in range(classes)],
    }
