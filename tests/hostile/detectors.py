"""Detectors whose detections do not give the scores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from hostile.edits import put_arrays
from hostile.table import case, edited
from hostile.valid import (
    detector_entry,
)


@case("detections left out", "scores", "ap", detector_entry)
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update({name: array[::2] for name, array in arrays.items()}))


edited("precision forged", "scores", "ap", lambda r: r["runs"][0]["last"].update(ap=0.99), detector_entry)
edited(
    "other annotations", "labels", "annotations", lambda r: r["teacher"].update(truth_sha256="0" * 64), detector_entry
)


@case("detections on an image that is not there", "predictions", "no image", detector_entry)
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays["image_id"].__setitem__(-1, 10**12))


@case("boxes that are no numbers", "predictions", "finite", detector_entry)
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays["box"].__setitem__(0, np.nan))


@case("scores above one", "predictions", "between 0 and 1", detector_entry)
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays["score"].__setitem__(0, 2.0))


@case("thousand detections in an image", "predictions", "more than 100", detector_entry)
def _(entry: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        for name, array in arrays.items():
            arrays[name] = np.concatenate([np.repeat(array[:1], 1000, axis=0), array])

    put_arrays(entry, change)


@case("detections of the teacher are missing", "files", "teacher", detector_entry)
def _(entry: Path) -> None:
    (entry / "teacher.npz").unlink()


@case("detections of another teacher", "teacher-predictions", "AP", detector_entry)
def _(entry: Path) -> None:
    shutil.copy(entry / "seed-0.npz", entry / "teacher.npz")
