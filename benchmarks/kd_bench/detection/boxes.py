"""The boxes that detectors are trained on: inside the image, of some size, and around one object each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_bench.detection.annotations import Annotations
from kd_bench.detection.categories import Integers

Corners = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BoxCounts:
    """What became of the boxes of a file.

    Attributes:
        usable: boxes that are trained on.
        clipped: of those, boxes that reach beyond their image by more than rounding, and were cut at its edge.
        crowds: boxes around groups of objects, not trained on.
        empty: boxes without area, not trained on.
        outside: boxes that lie beside their image, not trained on.
        images: images in the file.
        images_without: images without a usable box.
    """

    usable: int
    clipped: int
    crowds: int
    empty: int
    outside: int
    images: int
    images_without: int

    def __str__(self) -> str:
        left_out = f"{self.crowds:,} crowds, {self.empty:,} without area, {self.outside:,} outside of their image"
        return (
            f"{self.usable:,} boxes in {self.images - self.images_without:,} of {self.images:,} images "
            f"({self.clipped:,} cut at the image's edge); left out: {left_out}"
        )


@dataclass(frozen=True)
class UsableBoxes:
    """The boxes to train on, in the order of their images.

    Attributes:
        corners: ``(M, 4)`` as ``x1, y1, x2, y2`` in pixels, within the image.
        label: ``(M,)``, 0 to K-1.
        start: ``(I + 1,)``; image ``i`` has the boxes from ``start[i]`` to ``start[i + 1]``.
        counts: what became of the others.
    """

    corners: Corners
    label: Integers
    start: Integers
    counts: BoxCounts

    def of(self, position: int) -> tuple[Corners, Integers]:
        """Corners ``(G, 4)`` and labels ``(G,)`` of an image."""
        rows = slice(int(self.start[position]), int(self.start[position + 1]))
        return self.corners[rows], self.label[rows]


def usable_boxes(annotations: Annotations) -> UsableBoxes:
    """Cut boxes at the edge of their image, and leave out crowds and what then has no area.

    COCO's own boxes are partly a little beyond the image. Metrics are computed on the boxes as they are in the file.

    Args:
        annotations: with boxes as in the file.
    """
    x, y, width, height = annotations.box.T
    limits = np.stack([annotations.width, annotations.height] * 2, axis=1)[annotations.image].astype(np.float64)
    given = np.stack([x, y, x + width, y + height], axis=1)
    # what has an area in double precision need not have one in single precision
    corners = np.clip(given, 0, limits).astype(np.float32)
    solid = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    single = ~annotations.crowd
    empty = (width <= 0) | (height <= 0)
    kept = solid & single
    start = np.searchsorted(annotations.image[kept], np.arange(len(annotations) + 1)).astype(np.int64)
    moved = np.abs(corners - given).max(axis=1, initial=0.0) > 1e-3
    counts = BoxCounts(
        usable=int(kept.sum()),
        clipped=int((kept & moved).sum()),
        crowds=int(annotations.crowd.sum()),
        empty=int((single & empty).sum()),
        outside=int((single & ~empty & ~solid).sum()),
        images=len(annotations),
        images_without=int((np.diff(start) == 0).sum()),
    )
    return UsableBoxes(corners[kept], annotations.label[kept], start, counts)
