"""The generated scenes as files: COCO's JSON and PNG, written once, checked whenever they are opened."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from kd_bench.data.places import DATA_VARIABLE, data_dir
from kd_bench.detection.scenes import SPLITS, Scene, SceneSettings, compose, split_digits
from kd_bench.errors import UserError
from kd_bench.storage import explain_full_disk, is_disk_full, write_atomic

CONTENT = "content.sha256"
"""The file in which a folder of scenes keeps its :func:`content_hash`."""

_NAME = "digit-scenes"


def annotation_file(folder: Path, split: str) -> Path:
    """Where the annotations of a split are."""
    return folder / "annotations" / f"instances_{split}.json"


@lru_cache(maxsize=4)  # a process opens the same data for every training, teacher and evaluation
def find_scenes(settings: SceneSettings, root: Path | None = None) -> Path:
    """The folder of the scenes; they are written if they are not there, and anew if they are damaged.

    Args:
        settings: of the scenes.
        root: where to keep them, in a folder that other settings do not share; by default in
            :func:`~kd_bench.data.places.data_dir`.

    Raises:
        UserError: if they cannot be written.
    """
    place = data_dir() if root is None else root
    folder = place / f"{_NAME}-{hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / f".{folder.name}.lock"):
            if not is_whole(folder):
                with TemporaryDirectory(dir=place, prefix=f".{_NAME}-") as temporary:
                    write_scenes(settings, Path(temporary) / "whole")
                    with contextlib.suppress(FileNotFoundError):
                        shutil.rmtree(folder)
                    os.replace(Path(temporary) / "whole", folder)
    except OSError as error:
        if is_disk_full(error):
            raise UserError(explain_full_disk(place, "; the scenes could not be written")) from error
        raise UserError(
            f"cannot write the scenes to {folder}: {error.strerror or error}. Set {DATA_VARIABLE} to a folder that "
            "can be written to."
        ) from error
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a folder holds what was once written to it."""
    try:
        return (folder / CONTENT).read_text() == content_hash(folder)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError):
        return False


def content_hash(folder: Path) -> str:
    """sha256 over annotations and pixels; not over the files, since PNG can be packed in more than one way.

    Args:
        folder: of the scenes.

    Raises:
        OSError: if something is missing or cannot be decoded.
        ValueError: the same.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        content = annotation_file(folder, split).read_bytes()
        digest.update(split.encode() + hashlib.sha256(content).digest())
        for image in json.loads(content)["images"]:
            with Image.open(folder / split / image["file_name"]) as opened:
                pixels = np.asarray(opened)
            digest.update(str(pixels.shape).encode() + pixels.tobytes())
    return digest.hexdigest()


def write_scenes(settings: SceneSettings, folder: Path) -> None:
    """Write all splits: ``annotations/instances_<split>.json`` and ``<split>/000001.png``.

    Args:
        settings: of the scenes.
        folder: where to.
    """
    digits = split_digits(settings)
    for split in SPLITS:
        scenes = [compose(settings, split, number, digits[split]) for number in range(settings.count(split))]
        content = json.dumps(_annotations(scenes), separators=(",", ":"), sort_keys=True)
        annotation_file(folder, split).parent.mkdir(parents=True, exist_ok=True)
        annotation_file(folder, split).write_text(content + "\n")
        (folder / split).mkdir()
        for number, scene in enumerate(scenes, 1):
            buffer = io.BytesIO()
            Image.fromarray(scene.pixels).save(buffer, "PNG")
            (folder / split / _file_name(number)).write_bytes(buffer.getvalue())
    write_atomic(folder / CONTENT, content_hash(folder).encode())


def _annotations(scenes: list[Scene]) -> dict[str, Any]:
    objects = [
        (number, box, digit)
        for number, scene in enumerate(scenes, 1)
        for box, digit in zip(scene.boxes.tolist(), scene.digits.tolist(), strict=True)
    ]
    return {
        "info": {"description": "scenes of the handwritten digits bundled with scikit-learn"},
        "images": [
            {
                "id": number,
                "file_name": _file_name(number),
                "height": scene.pixels.shape[0],
                "width": scene.pixels.shape[1],
            }
            for number, scene in enumerate(scenes, 1)
        ],
        "annotations": [
            {
                "id": id_,
                "image_id": number,
                "category_id": digit + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for id_, (number, box, digit) in enumerate(objects, 1)
        ],
        "categories": [{"id": digit + 1, "name": str(digit), "supercategory": "digit"} for digit in range(10)],
    }


def _file_name(number: int) -> str:
    return f"{number:06d}.png"
