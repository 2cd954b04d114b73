from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.categories import Categories
from kd_bench.detection.curve_plot import Line, iou_lines, precision_recall_svg
from kd_bench.detection.detections import Detections
from kd_bench.detection.evaluate import RECALLS, Curves
from kd_bench.detection.palette import colour
from kd_bench.detection.pictures import Panel, draw_side_by_side, found_panel, truth_panel
from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"
TWO = Categories((3, 7), ("ant", "zebra"))


def drawn(panels: list[Panel], width: int = 100, height: int = 80) -> np.ndarray:
    picture = Image.new("RGB", (width, height), (10, 20, 30))
    return np.asarray(Image.open(io.BytesIO(draw_side_by_side(picture, panels, TWO))))


class TestPictures:
    def test_panels_lie_side_by_side_and_are_enlarged(self) -> None:
        panel = Panel("nothing", np.zeros((0, 4)), np.zeros(0, int))
        assert drawn([panel]).shape == (22 + 320, 400, 3)
        assert drawn([panel] * 3).shape == (22 + 320, 3 * 400 + 2 * 8, 3)
        assert drawn([panel], 640, 480).shape == (22 + 480, 640, 3)
        assert (drawn([panel])[22:] == (10, 20, 30)).all()

    def test_a_box_is_drawn_in_its_class_and_only_in_its_panel(self) -> None:
        empty = Panel("", np.zeros((0, 4)), np.zeros(0, int))
        one = Panel("", np.array([[20.0, 30, 60, 70]]), np.array([1]), np.array([0.5]))
        found = drawn([empty, one])
        assert (found[22:, :400] == (10, 20, 30)).all()
        right = found[22:, 408:]
        assert (right[120:280, 80] == colour(1)).all()
        assert (right[120:280, 239] == colour(1)).all()
        assert (right[279, 80:240] == colour(1)).all()
        # neither inside nor beyond
        assert (right[140:260, 100:220] == (10, 20, 30)).all()
        assert (right[284:, :] == (10, 20, 30)).all()

    def test_boxes_beyond_the_image_and_without_area_are_no_problem(self) -> None:
        boxes = np.array([[-10.0, -10, 150, 150], [5, 5, 5, 5]])
        assert drawn([Panel("", boxes, np.array([0, 1]), np.array([0.9, 0.1]))]).shape == (342, 400, 3)

    def test_panels_show_what_is_there_and_what_was_found(
        self, content: Any, read: Callable[[Any], Annotations]
    ) -> None:
        annotations = read(content)
        truth = truth_panel(annotations, 1)
        assert (truth.corners.tolist(), truth.labels.tolist(), truth.scores) == ([[5, 5, 15, 25]], [1], None)
        detections = Detections(
            np.array([4, 9, 9]),
            np.array([0, 1, 0], np.uint16),
            np.array([0.9, 0.8, 0.2], np.float32),
            np.arange(12, dtype=np.float32).reshape(3, 4),
        )
        panel = found_panel("student", detections, 9)
        assert (panel.title, panel.labels.tolist(), panel.corners.tolist()) == ("student", [1], [[4, 5, 6, 7]])

    def test_neighbouring_classes_have_different_colours(self) -> None:
        assert len({colour(label) for label in range(80)}) == 80
        for label in range(79):
            assert np.abs(np.subtract(colour(label), colour(label + 1))).max() > 60


class TestCurves:
    def test_points_are_where_they_belong(self) -> None:
        falling = [1 - recall for recall in RECALLS]
        root = ET.fromstring(
            precision_recall_svg([Line("a < b", falling)], "A & B").replace("<svg", f'<svg xmlns="{SVG[1:-1]}"', 1)
        )
        (curve,) = root.findall(f"{SVG}polyline")
        points = [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]
        assert len(points) == 101
        assert (points[0], points[-1], points[50]) == ((46, 8), (286, 248), (166, 128))
        texts = [item.text for item in root.findall(f"{SVG}text")]
        assert {"a < b (0.500)", "Recall", "Precision", "0.25", "1"} <= set(texts)
        title = root.find(f"{SVG}title")
        assert title is not None
        assert title.text == root.attrib["aria-label"] == "A & B"

    def test_all_of_it_is_inside_the_picture(self) -> None:
        lines = [Line(f"line {number}", [number / 5] * 101) for number in range(6)]
        root = ET.fromstring(precision_recall_svg(lines, "six"))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for item in root.iter():
            for key, limit in (
                ("x", width),
                ("x1", width),
                ("x2", width),
                ("y", height),
                ("y1", height),
                ("y2", height),
            ):
                assert 0 <= float(item.attrib.get(key, 0)) <= limit
        styles = {(item.attrib["stroke"], item.attrib.get("stroke-dasharray")) for item in root.iter("polyline")}
        assert len(styles) == 6

    def test_the_curves_of_a_run(self) -> None:
        curves = Curves((1.0,) * 101, (0.5,) * 101, (0.25,) * 101)
        lines = iou_lines(curves)
        assert [line.precision[0] for line in lines] == [1, 0.5, 0.25]
        assert "mean of 0.50 to 0.95 (0.250)" in precision_recall_svg(lines, "run")

    def test_other_lines_are_refused(self) -> None:
        with pytest.raises(ValueError, match="1 to 6 lines, got 0"):
            precision_recall_svg([], "none")
        with pytest.raises(ValueError, match="'short' has 3 values, expected 101"):
            precision_recall_svg([Line("short", [1, 1, 1])], "short")
