"""Classifiers whose predictions do not give the scores, or are not those of a network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from hostile.edits import edit, put_arrays
from hostile.table import case, edited


@case("forged hash of predictions", "predictions-hash", "hash")
def _(entry: Path) -> None:
    edit(entry, lambda r: r["runs"][0].update(predictions_sha256="0" * 64))


@case("predictions exchanged", "predictions-hash", "hash")
def _(entry: Path) -> None:
    shutil.copy(entry / "seed-1.npz", entry / "seed-0.npz")


@case("one prediction flipped", "scores", "accuracy")
def _(entry: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        wrong = np.flatnonzero(arrays["predicted"] != arrays["label"])[0]
        arrays["predicted"][wrong] = arrays["label"][wrong]
        arrays["label_log_probability"][wrong] = np.log(arrays["confidence"][wrong])

    put_arrays(entry, change)


@case("labels forged", "labels", "not those of the test set")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(label=arrays["predicted"].copy()))


edited("accuracy forged", "scores", "accuracy", lambda r: _forge(r["runs"][0]))
edited("likelihood forged", "scores", "nll", lambda r: r["runs"][0]["last"].update(nll=0.0))
edited("calibration forged", "scores", "ece", lambda r: r["runs"][0]["last"].update(ece=0.0))
edited("agreement forged", "scores", "agreement", lambda r: r["runs"][0]["last"].update(agreement=1.0))


def _forge(run: dict[str, Any]) -> None:
    run["last"]["accuracy"] += 0.01
    run["best"]["accuracy"] += 0.01


@case("class that does not exist", "predictions", "class 200")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays["predicted"].__setitem__(0, 200))


@case("confidence above one", "predictions", "between 0 and 1")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays["confidence"].__setitem__(0, 1.5))


@case("confidence is no number", "predictions", "finite")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays["confidence"].__setitem__(0, np.nan))


@case("infinite likelihood", "predictions", "finite")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays["label_log_probability"].__setitem__(0, -np.inf))


@case("probabilities that contradict each other", "predictions", "different probabilities")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(label_log_probability=np.full(539, -1e-9, dtype=np.float32)))


@case("confidence of a guess", "predictions", "more probable")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(confidence=np.full(539, 0.01, dtype=np.float32)))


@case("other predictions of the teacher", "teacher-predictions", "right in")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(teacher_predicted=arrays["label"].copy()))


@case("teacher changes from seed to seed", "teacher-predictions", "one teacher")
def _(entry: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        taught = arrays["teacher_predicted"]
        right, wrong = (np.flatnonzero((taught == arrays["label"]) == is_right)[0] for is_right in (True, False))
        taught[wrong], taught[right] = arrays["label"][wrong], (arrays["label"][right] + 1) % 10

    put_arrays(entry, change)
