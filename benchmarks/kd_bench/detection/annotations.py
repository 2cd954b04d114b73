"""COCO's instance annotations: read once, checked as a whole, and kept as arrays.

The format is described at https://cocodataset.org/#format-data. Segmentations are not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from kd_bench.detection.categories import Categories, Integers
from kd_bench.detection.tables import Table, first_of
from kd_bench.errors import UserError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Annotations:
    """The objects of a set of images.

    Images are in the order of their ids; objects are in the order of their images, and within an image as in the file.
    Arrays rather than lists: worker processes share them with this one without copying them.

    Attributes:
        path: the file, for errors.
        categories: the classes.
        image_id: ``(I,)``, ascending.
        file_name: ``(I,)``, encoded.
        width: of the images, ``(I,)``.
        height: of the images, ``(I,)``.
        image: position of each object's image, ``(M,)``, ascending.
        label: class of each object, 0 to K-1, ``(M,)``.
        box: ``(M, 4)`` as ``x, y, width, height`` in pixels, as in the file, so possibly beyond the image.
        area: ``(M,)`` in pixels, as in the file; decides whether an object is small, medium or large.
        crowd: whether it is a group of objects in one box, ``(M,)``.
    """

    path: Path
    categories: Categories
    image_id: Integers
    file_name: npt.NDArray[np.bytes_]
    width: Integers
    height: Integers
    image: Integers
    label: Integers
    box: Floats
    area: Floats
    crowd: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.image_id)

    def name(self, position: int) -> str:
        """File name of an image."""
        encoded: bytes = self.file_name[position]
        return encoded.decode()

    def subset(self, positions: Integers) -> Annotations:
        """Some of the images, with their objects.

        Args:
            positions: of the images, ascending.
        """
        new = np.full(len(self), -1, dtype=np.int64)
        new[positions] = np.arange(len(positions))
        kept = new[self.image] >= 0
        images = {name: getattr(self, name)[positions] for name in ("image_id", "file_name", "width", "height")}
        objects = {name: getattr(self, name)[kept] for name in ("label", "box", "area", "crowd")}
        return replace(self, image=new[self.image[kept]], **images, **objects)

    def checksum(self) -> str:
        """sha256 over all of this but the path."""
        digest = hashlib.sha256(json.dumps([self.categories.ids, self.categories.names]).encode())
        for array, kind in (
            (self.image_id, "<i8"),
            (self.width, "<i8"),
            (self.height, "<i8"),
            (self.image, "<i8"),
            (self.label, "<i8"),
            (self.box, "<f8"),
            (self.area, "<f8"),
            (self.crowd, "|b1"),
        ):
            digest.update(array.astype(kind).tobytes())
        digest.update(b"\n".join(self.file_name.tolist()))
        return digest.hexdigest()


def read_annotations(path: Path) -> Annotations:
    """Read and check a file such as ``instances_train2017.json``.

    Args:
        path: the file.

    Raises:
        UserError: if it cannot be read, lacks something, has an id twice, refers to an unknown image or category, or
            has boxes that are none.
    """
    content = _load(path)
    images, objects, categories = (Table(path, name, content[name]) for name in ("images", "annotations", "categories"))
    classes = _categories(categories)
    image_id, names = images.ids(), images.column("file_name", str, "a string")
    _check_names(path, names)
    width, height = (images.positive(key) for key in ("width", "height"))
    order = np.argsort(image_id, kind="stable")
    image_id = image_id[order]
    objects.ids()
    owner, category = objects.integers("image_id"), objects.integers("category_id")
    objects.check(np.isin(owner, image_id), "refer to images that the file does not list")
    objects.check(np.isin(category, np.array(classes.ids)), "refer to categories that the file does not list")
    image = np.searchsorted(image_id, owner).astype(np.int64)
    by_image = np.argsort(image, kind="stable")
    box, area = objects.boxes("bbox"), objects.numbers("area")
    crowd = objects.flags("iscrowd")
    return Annotations(
        path=path,
        categories=classes,
        image_id=image_id,
        file_name=np.array([names[index].encode() for index in order.tolist()]),
        width=width[order],
        height=height[order],
        image=image[by_image],
        label=classes.labels(category)[by_image],
        box=box[by_image],
        area=area[by_image],
        crowd=crowd[by_image],
    )


def check_files(annotations: Annotations, folder: Path) -> None:
    """Refuse a folder that lacks images.

    Args:
        annotations: say which images there should be.
        folder: where they should be.

    Raises:
        UserError: if some are missing.
    """
    try:
        there = set(os.listdir(folder))
    except OSError as error:
        raise UserError(
            f"cannot read the folder {folder} of the images that {annotations.path} lists: {error.strerror or error}. "
            "Unpack the images to there, or put a link to them there."
        ) from error
    names = [name.decode() for name in annotations.file_name.tolist()]
    missing = [name for name in names if name not in there and not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing):,} of the {len(names):,} images that {annotations.path} lists: "
            f"{first_of(missing)}. Unpack the archive of the images again."
        )


def _load(path: Path) -> dict[str, Any]:
    try:
        # twice as fast as json, which counts with half a gigabyte
        content = from_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read the annotations {path}: {error.strerror or error}. Put the file there, or a link to it."
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON: {error}. It is damaged or incomplete; unpack or export it again."
        ) from error
    expected = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(not isinstance(content.get(key), list) for key in expected):
        found = sorted(content)[:8] if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"{path} does not hold COCO's instance annotations: expected an object with the lists "
            f"{', '.join(expected)}, found {found}. Use a file such as instances_val2017.json."
        )
    for key in ("images", "categories"):
        if not content[key]:
            raise UserError(f"{path} lists no {key}; use a file such as instances_val2017.json.")
    return content


def _categories(table: Table) -> Categories:
    ids, names = table.ids(), table.column("name", str, "a string")
    # 0 is the background in torchvision's detectors
    table.check(ids > 0, "have an id below 1")
    table.check(np.array([names.count(name) == 1 for name in names]), "have a name that another one has, too")
    order = np.argsort(ids).tolist()
    return Categories(tuple(ids[order].tolist()), tuple(names[index] for index in order))


def _check_names(path: Path, names: list[str]) -> None:
    # the most common name is a bare one; only others need a closer look
    odd = [name for name in names if not name or "/" in name or "\\" in name or "\0" in name or name in (".", "..")]
    bad = [name for name in odd if not _is_relative(name)]
    if bad:
        raise UserError(
            f"{path} lists images whose file_name does not lead to a file inside the folder of the images: "
            f"{first_of(bad)}. Use names relative to that folder."
        )


def _is_relative(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and "\\" not in name and "\0" not in name and not name.startswith("/") and ".." not in parts
