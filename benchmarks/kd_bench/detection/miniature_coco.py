"""A tiny copy of COCO 2017 in its real format and with its oddities, made of coloured rectangles: for a try.

The files are written by this package, so the same classes read them that read the real data, on the same paths.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from kd_bench.detection.coco_files import annotation_file
from kd_bench.detection.palette import colour

_PER_IMAGE = 3
_GREY_EVERY = 4
_BARE = 2


def coco_categories() -> list[dict[str, Any]]:
    """The 80 categories of COCO with their ids from 1 to 90, as torchvision's public weights name them."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return [{"id": id_, "name": name} for id_, name in enumerate(names) if name not in ("__background__", "N/A")]


def write_coco(directory: Path, *, train: int = 24, val: int = 8) -> dict[str, Any]:
    """Write ``annotations/instances_<set>2017.json``, ``train2017`` and ``val2017``.

    As in the original, sizes and shapes differ, some images are grey, some have no annotations, some boxes are crowds,
    reach beyond the image or have no area.

    Args:
        directory: where to; in it the copy gets a folder that no other copy has.
        train: number of training images.
        val: number of validation images; 4 or more, so that there is one of each kind.

    Returns:
        Parameters with which :class:`~kd_bench.detection.coco.COCO` reads it.
    """
    root = directory / f"coco-{train}-{val}"
    if not root.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory, prefix=".coco-") as temporary:
            for seed, (name, count) in enumerate((("train", train), ("val", val))):
                _write_set(Path(temporary) / "whole", name, count, seed)
            # another process may have been faster
            with contextlib.suppress(OSError):
                os.replace(Path(temporary) / "whole", root)
    return {"root": str(root), "counts": {"train": train, "val": val}, "validation_fraction": 0.25}


def _write_set(root: Path, name: str, count: int, seed: int) -> None:
    random = np.random.RandomState(seed)
    categories = coco_categories()
    folder = root / f"{name}2017"
    folder.mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        width, height = (160, 120) if number % 3 else (112, 144)
        id_ = 1000 * (seed + 1) + 7 * number
        file_name = f"{id_:012d}.jpg"
        images.append({"id": id_, "file_name": file_name, "width": width, "height": height})
        canvas = Image.fromarray(random.randint(90, 160, (height, width, 3)).astype(np.uint8))
        for _ in range(0 if number == _BARE else _PER_IMAGE):
            label = int(random.randint(len(categories)))
            wide, high = random.randint(16, 80, 2).tolist()
            x, y = int(random.randint(width - wide)), int(random.randint(height - high))
            ImageDraw.Draw(canvas).rectangle((x, y, x + wide - 1, y + high - 1), fill=colour(label))
            annotations.append(_object(id_, categories[label]["id"], [x + 0.25, y + 0.5, wide - 0.5, high - 0.75]))
        annotations += _oddities(id_, number, width, height)
        packed = canvas.convert("L") if number % _GREY_EVERY == 3 else canvas
        packed.save(folder / file_name, "JPEG", quality=90)
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = 100_000 * (seed + 1) + number
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    annotation_file(root, name).parent.mkdir(exist_ok=True)
    annotation_file(root, name).write_text(json.dumps(content))


def _oddities(image_id: int, number: int, width: int, height: int) -> list[dict[str, Any]]:
    """What COCO has besides plain boxes; on the first images one each."""
    if number == 0:
        runs = [width * height // 4, width * height // 2, width * height - width * height // 4 - width * height // 2]
        mask = {"counts": runs, "size": [height, width]}
        return [{**_object(image_id, 1, [8.0, 8.0, width - 16.0, height - 16.0]), "iscrowd": 1, "segmentation": mask}]
    if number == 1:
        return [_object(image_id, 90, [width - 20.0, 4.0, 20.7, 12.0]), _object(image_id, 3, [5.0, 5.0, 0.0, 9.0])]
    if number == 3:
        return [_object(image_id, 44, [width + 2.0, 10.0, 6.0, 6.0])]
    return []


def _object(image_id: int, category_id: int, box: list[float]) -> dict[str, Any]:
    x, y, width, height = box
    outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        # objects fill only a part of their box
        "area": 0.8 * width * height,
        "iscrowd": 0,
        "segmentation": outline,
    }
