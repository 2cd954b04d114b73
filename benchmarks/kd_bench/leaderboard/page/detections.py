"""What detectors found, as the page shows it: precision-recall curves, and boxes on three fixed images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.layout import TEACHER_DETECTIONS
from kd_bench.leaderboard.page.files import check_written_by_run, prediction_files
from kd_bench.protocol import load_protocol
from kd_bench.results import PLAIN, RunSet

if TYPE_CHECKING:
    from kd_bench.detection.annotations import Annotations
    from kd_bench.detection.data import DetectionData
    from kd_bench.detection.detections import Detections

BEST = 3
"""Rows whose curves are drawn besides the plain student's and the teacher's."""

PICTURES = 3
LEAST_SCORE = 0.3
"""Detections with a lower score are not drawn."""


@dataclass(frozen=True)
class Picture:
    """An image of the test set with boxes.

    Attributes:
        source: the picture itself, as a data address.
        description: what is on it, for those who cannot see it.
    """

    source: str
    description: str


@dataclass(frozen=True)
class DetectionFigures:
    """What a board of detectors shows above its table.

    Attributes:
        curves: a drawing of precision-recall curves.
        pictures: the same images as for every other board of the data.
        students: which rows the pictures show.
    """

    curves: Markup
    pictures: list[Picture]
    students: str


def detection_figures(entries: Sequence[Entry]) -> DetectionFigures | None:
    """Draw the figures of a board.

    Args:
        entries: of one pair, best first.

    Returns:
        The figures; ``None`` where the detections, the protocol or its test images are not at hand.

    Raises:
        UserError: if a file of detections is missing beside others, is corrupt, or is not the one that was written by
            the run.
    """
    if not entries or not all(prediction_files(entry) for entry in entries):
        return None
    data = _data(entries[0].run_set)
    return None if data is None else draw_figures(entries, data)


def draw_figures(entries: Sequence[Entry], data: DetectionData) -> DetectionFigures:
    """Draw the figures of a board whose test images are at hand.

    Args:
        entries: see :func:`detection_figures`.
        data: what the detectors were tested on.

    Raises:
        UserError: see :func:`detection_figures`.
    """
    truth = data.truth("test")
    named = {entry.run_set.method.name: entry for entry in entries}
    chosen = list(named)[:BEST]
    chosen += [PLAIN] if PLAIN in named and PLAIN not in chosen else []
    found = {name: _detections(named[name], truth) for name in chosen}
    teacher = _teacher(named[chosen[0]], truth)
    curves = _curves({**({} if teacher is None else {"teacher": [teacher]}), **found}, truth)
    shown = {name: found[name][0] for name in dict.fromkeys([PLAIN, chosen[0]]) if name in found}
    panels = {**({} if teacher is None else {"teacher": teacher}), **shown}
    return DetectionFigures(curves, _pictures(data, truth, panels), " and ".join(shown))


def _data(run_set: RunSet) -> DetectionData | None:
    # both bring PyTorch, which a page without detectors does without
    from kd_bench.data.base import open_data
    from kd_bench.detection.data import DetectionData

    try:
        protocol = load_protocol(run_set.protocol.id)
        if protocol.hash != run_set.protocol.hash:
            return None
        data = open_data(protocol.data, protocol.student_recipe, 0)
    except UserError:
        return None
    return data if isinstance(data, DetectionData) else None


def _detections(entry: Entry, truth: Annotations) -> list[Detections]:
    from kd_bench.detection.detections import read_detections

    found = []
    for run, path in prediction_files(entry):
        found.append(read_detections(path, truth))
        check_written_by_run(path, run)
    return found


def _teacher(entry: Entry, truth: Annotations) -> Detections | None:
    from kd_bench.detection.detections import read_detections

    assert entry.folder is not None
    path = entry.folder / TEACHER_DETECTIONS
    return read_detections(path, truth) if path.exists() else None


def _curves(found: Mapping[str, Sequence[Detections]], truth: Annotations) -> Markup:
    from kd_bench.detection.curve_plot import Line, precision_recall_svg
    from kd_bench.detection.evaluate import evaluate

    lines = []
    for name, runs in found.items():
        precision = np.mean([evaluate(truth, run).curves.mean for run in runs], axis=0)
        lines.append(Line(name, precision.tolist()))
    title = "Precision against recall, mean over classes, IoUs from 0.5 to 0.95 and seeds"
    # made of numbers and of names that it escapes
    return Markup(precision_recall_svg(lines, title))


def _pictures(data: DetectionData, truth: Annotations, found: Mapping[str, Detections]) -> list[Picture]:
    from kd_bench.detection.pictures import draw_side_by_side, found_panel, truth_panel

    images = data.images("test")
    pictures = []
    for position in np.linspace(0, len(truth) - 1, PICTURES).round().astype(int).tolist():
        image_id = int(truth.image_id[position])
        panels = [found_panel(name, detections, image_id, LEAST_SCORE) for name, detections in found.items()]
        drawn = draw_side_by_side(images.picture(position), [truth_panel(truth, position), *panels], truth.categories)
        counts = ", ".join(f"{name} {len(panel.labels)}" for name, panel in zip(found, panels, strict=True))
        pictures.append(
            Picture(
                f"data:image/png;base64,{base64.b64encode(drawn).decode()}",
                f"Test image {image_id} with boxes: ground truth, then what was found. Number of boxes: {counts}",
            )
        )
    return pictures
