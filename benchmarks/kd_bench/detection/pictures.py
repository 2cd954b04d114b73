"""An image with the objects that are there, what the teacher found and what the student found, side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kd_bench.detection.annotations import Annotations
from kd_bench.detection.boxes import usable_boxes
from kd_bench.detection.categories import Categories
from kd_bench.detection.detections import Detections
from kd_bench.detection.palette import colour

_GAP = 8
_HEADING = 22
_TEXT = 13
_LEAST_WIDTH = 320


@dataclass(frozen=True)
class Panel:
    """Boxes on the image.

    Attributes:
        title: written above.
        corners: ``(G, 4)`` as ``x1, y1, x2, y2`` in pixels of the image.
        labels: ``(G,)``, 0 to K-1.
        scores: ``(G,)``, or ``None`` for objects that are there.
    """

    title: str
    corners: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer]
    scores: npt.NDArray[np.floating] | None = None


def truth_panel(annotations: Annotations, position: int) -> Panel:
    """The objects that are there, without crowds.

    Args:
        annotations: of a set of images.
        position: of the image.
    """
    corners, labels = usable_boxes(annotations.subset(np.array([position]))).of(0)
    return Panel("ground truth", corners, labels)


def found_panel(title: str, detections: Detections, image_id: int, least: float = 0.3) -> Panel:
    """What was found.

    Args:
        title: who found it.
        detections: on a set of images.
        image_id: of the image.
        least: scores below are not shown.
    """
    shown = detections.of_image(image_id, least)
    return Panel(title, shown.box, shown.label, shown.score)


def draw_side_by_side(picture: Image.Image, panels: Sequence[Panel], categories: Categories) -> bytes:
    """Draw one copy of the image for each panel.

    Small images are enlarged by a whole number, so that names can be read.

    Args:
        picture: the image.
        panels: from left to right; one at least.
        categories: the classes.

    Returns:
        A PNG file.
    """
    factor = max(1, -(-_LEAST_WIDTH // picture.width))
    width, height = picture.width * factor, picture.height * factor
    sheet = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, height + _HEADING), "white")
    enlarged = picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
    font = ImageFont.load_default(_TEXT)
    for number, panel in enumerate(panels):
        drawn = enlarged.copy()
        _draw_boxes(drawn, panel, factor, categories, font)
        left = number * (width + _GAP)
        sheet.paste(drawn, (left, _HEADING))
        ImageDraw.Draw(sheet).text((left + 2, 3), panel.title, fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _draw_boxes(
    drawn: Image.Image,
    panel: Panel,
    factor: int,
    categories: Categories,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    canvas = ImageDraw.Draw(drawn)
    # the surest one last, so that it covers the others
    for place in range(len(panel.labels) - 1, -1, -1):
        label = int(panel.labels[place])
        left, top, right, bottom = (factor * panel.corners[place]).tolist()
        ink = colour(label)
        canvas.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=ink, width=2)
        text = categories.names[label]
        if panel.scores is not None:
            text += f" {panel.scores[place]:.2f}"
        x, y = max(0.0, left), max(0.0, top - _TEXT - 3)
        canvas.rectangle((x, y, x + canvas.textlength(text, font=font) + 4, y + _TEXT + 3), fill=ink)
        canvas.text((x + 2, y), text, fill="black", font=font)
