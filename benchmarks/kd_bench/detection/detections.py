"""The detections of a run, kept compactly so that anyone can recompute its metrics exactly."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kd_bench.detection.annotations import Annotations
from kd_bench.detection.categories import Categories, Numbering
from kd_bench.errors import UserError
from kd_bench.storage import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

MAX_DETECTIONS = 100
"""Detections of an image that are kept. COCO's metrics look at no more than that of one class."""

MAX_BYTES = 1_000_000_000
_KEYS = {"image_id": np.int64, "label": np.uint16, "score": np.float32, "box": np.float32}


@dataclass(frozen=True)
class Detections:
    """What a detector found on a set of images, in the order of their ids, and of falling scores in each.

    Attributes:
        image_id: ``(D,)``, int64.
        label: class, 0 to K-1, ``(D,)``, uint16.
        score: ``(D,)``, float32, between 0 and 1.
        box: ``(D, 4)`` as ``x1, y1, x2, y2`` in pixels of the original image, float32.
    """

    image_id: npt.NDArray[np.int64]
    label: npt.NDArray[np.uint16]
    score: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def of_images(
        cls,
        found: Iterable[tuple[int, dict[str, Tensor]]],
        categories: Categories,
        numbering: Numbering = "contiguous",
    ) -> Detections:
        """Collect what a torchvision detector returns.

        Detections that the detector takes for the background or for an unused number are left out, and so are those
        after the best :data:`MAX_DETECTIONS` of an image.

        Args:
            found: id of each image, and its ``boxes`` (D, 4) in pixels of the original image, ``scores`` (D,) and
                ``labels`` (D,); images without detections may be there or not.
            categories: the classes.
            numbering: what ``labels`` are.
        """
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        for image_id, item in found:
            label = categories.from_torchvision(item["labels"].cpu().numpy().astype(np.int64), numbering)
            score = item["scores"].detach().float().cpu().numpy()
            box = item["boxes"].detach().float().cpu().numpy().reshape(-1, 4)
            best = np.argsort(-score, kind="stable")
            best = best[label[best] >= 0][:MAX_DETECTIONS]
            parts.append((np.full(len(best), image_id), label[best], score[best], box[best]))
        parts.append((np.zeros(0), np.zeros(0), np.zeros(0), np.zeros((0, 4))))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        order = np.lexsort((-columns[2], columns[0]))
        return cls(**{key: column[order].astype(_KEYS[key]) for key, column in zip(_KEYS, columns, strict=True)})

    def of_image(self, image_id: int, least: float = 0.0) -> Detections:
        """Those of one image with a score of ``least`` or more."""
        kept = (self.image_id == image_id) & (self.score >= least)
        return Detections(self.image_id[kept], self.label[kept], self.score[kept], self.box[kept])


def concatenate(parts: Sequence[Detections]) -> Detections:
    """Detections on different images together.

    Args:
        parts: at least one.
    """
    columns = {key: np.concatenate([getattr(part, key) for part in parts]) for key in _KEYS}
    order = np.argsort(columns["image_id"], kind="stable")
    return Detections(**{key: column[order] for key, column in columns.items()})


def write_detections(path: Path, detections: Detections) -> None:
    """Write a compressed ``.npz`` atomically. Equal detections give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        image_id=detections.image_id,
        label=detections.label,
        score=detections.score,
        box=detections.box,
    )
    write_atomic(path, buffer.getvalue())


def read_detections(path: Path, annotations: Annotations) -> Detections:
    """Read a file of detections; it is untrusted input, so nothing is unpickled and its size is bounded.

    Args:
        path: the file.
        annotations: of the images that the detections belong to.

    Raises:
        UserError: if the file is missing, too large, corrupt, or holds other things than detections on these images.
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
            f"cannot read the detections {path}: {error}. Run the benchmark again to restore it."
        ) from error
    problem = _wrong_arrays(found) or problem_with(Detections(**found), annotations)
    if problem:
        raise UserError(f"{path} does not hold detections on the images of {annotations.path}: {problem}.")
    return Detections(**found)


def problem_with(detections: Detections, annotations: Annotations) -> str | None:
    """Why something cannot be the detections on a set of images, or ``None`` if it can.

    Args:
        detections: with arrays of the right types and shapes.
        annotations: of the images.
    """
    image_id, score, box = detections.image_id, detections.score, detections.box
    if not (np.isfinite(score).all() and ((score >= 0) & (score <= 1)).all()):
        return "scores must be between 0 and 1"
    if not (np.isfinite(box).all() and (box[:, 2:] >= box[:, :2]).all()):
        return "boxes must be finite, with x1 <= x2 and y1 <= y2"
    if (np.diff(image_id) < 0).any() or ((np.diff(image_id) == 0) & (np.diff(score) > 0)).any():
        return "detections must be in the order of the images' ids, and of falling scores in each"
    ids, counts = np.unique(image_id, return_counts=True)
    if (counts > MAX_DETECTIONS).any():
        return f"image {ids[counts > MAX_DETECTIONS][0]} has more than {MAX_DETECTIONS} detections"
    if not np.isin(ids, annotations.image_id).all():
        return f"there is no image with the id {ids[~np.isin(ids, annotations.image_id)][0]}"
    if (detections.label >= len(annotations.categories)).any():
        return f"labels must be below {len(annotations.categories)}, the number of classes"
    return None


def _wrong_arrays(found: dict[str, npt.NDArray[np.generic]]) -> str | None:
    if set(found) != set(_KEYS):
        return f"expected the arrays {', '.join(_KEYS)}, found {', '.join(sorted(found)) or 'none'}"
    length = found["score"].shape[:1]
    for key, kind in _KEYS.items():
        shape = (*length, 4) if key == "box" else length
        if found[key].dtype != kind or not length or found[key].shape != shape:
            return f"{key} must be {np.dtype(kind)} of shape {shape}, found {found[key].dtype} {found[key].shape}"
    return None
