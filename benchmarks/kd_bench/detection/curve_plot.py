"""Precision-recall curves as an inline SVG for the leaderboard's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from kd_bench.detection.evaluate import RECALLS, Curves

_LEFT, _TOP, _SIDE = 46, 8, 240
_ROW = 18
_FROM_LINES = 44

# colours of the page, with what they are in its light scheme for use elsewhere; then dashes
_STYLES = (
    ("var(--mark, #2457c5)", ""),
    ("var(--student, #a8590b)", "5 3"),
    ("var(--teacher, #16794a)", "8 2 2 2"),
    ("var(--ink, #1b2230)", "2 3"),
    ("var(--muted, #586375)", ""),
    ("var(--mark, #2457c5)", "3 2"),
)


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: in the legend.
        precision: at each of :data:`~kd_bench.detection.evaluate.RECALLS`, between 0 and 1.
    """

    name: str
    precision: Sequence[float]


def iou_lines(curves: Curves) -> list[Line]:
    """One run's curves at different IoUs."""
    named = {"IoU 0.50": curves.iou_50, "IoU 0.75": curves.iou_75, "mean of 0.50 to 0.95": curves.mean}
    return [Line(name, precision) for name, precision in named.items()]


def precision_recall_svg(lines: Sequence[Line], title: str) -> str:
    """Draw curves over a common pair of axes.

    Args:
        lines: one to six; the legend gives the mean precision of each, which is an AP.
        title: what is shown, for those who cannot see it.

    Raises:
        ValueError: if there are no lines or too many to tell apart, or a line does not fit the recalls.
    """
    if not 1 <= len(lines) <= len(_STYLES):
        raise ValueError(f"expected 1 to {len(_STYLES)} lines, got {len(lines)}")
    for line in lines:
        if len(line.precision) != len(RECALLS):
            raise ValueError(f"{line.name!r} has {len(line.precision)} values, expected {len(RECALLS)}")
    parts = [f"<title>{escape(title)}</title>", *_axes()]
    for number, line in enumerate(lines):
        parts += _curve(line, *_STYLES[number], row=number)
    height = _TOP + _SIDE + _FROM_LINES + _ROW * len(lines)
    return (
        f'<svg viewBox="0 0 {_LEFT + _SIDE + 12} {height}" role="img" aria-label="{escape(title)}" '
        f'font-family="system-ui, sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def _axes() -> list[str]:
    text, grid = 'fill="var(--muted, #586375)"', 'class="grid" stroke="var(--line, #d9dee7)"'
    parts = []
    for step in range(0, 101, 25):
        x, y = _place(step / 100, step / 100)
        label = f"{step / 100:g}"
        parts += [
            f'<line {grid} x1="{x}" x2="{x}" y1="{_TOP}" y2="{_TOP + _SIDE}"/>',
            f'<line {grid} x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{y}" y2="{y}"/>',
            f'<text {text} x="{x}" y="{_TOP + _SIDE + 15}" text-anchor="middle">{label}</text>',
            f'<text {text} x="{_LEFT - 5}" y="{y}" dy="4" text-anchor="end">{label}</text>',
        ]
    middle = _TOP + _SIDE / 2
    return [
        *parts,
        f'<text {text} x="{_LEFT + _SIDE / 2:g}" y="{_TOP + _SIDE + 31}" text-anchor="middle">Recall</text>',
        f'<text {text} transform="translate(12 {middle:g}) rotate(-90)" text-anchor="middle">Precision</text>',
    ]


def _curve(line: Line, stroke: str, dashes: str, row: int) -> list[str]:
    points = " ".join(
        ",".join(_place(recall, precision)) for recall, precision in zip(RECALLS, line.precision, strict=True)
    )
    style = f'fill="none" stroke="{stroke}" stroke-width="2"' + (f' stroke-dasharray="{dashes}"' if dashes else "")
    y = _TOP + _SIDE + _FROM_LINES + _ROW * row
    mean = sum(line.precision) / len(line.precision)
    return [
        f'<polyline {style} points="{points}"/>',
        f'<line {style} x1="{_LEFT}" x2="{_LEFT + 26}" y1="{y}" y2="{y}"/>',
        f'<text fill="var(--muted, #586375)" x="{_LEFT + 34}" y="{y}" dy="4">{escape(line.name)} ({mean:.3f})</text>',
    ]


def _place(recall: float, precision: float) -> tuple[str, str]:
    share = min(max(precision, 0.0), 1.0)
    return f"{_LEFT + _SIDE * recall:.1f}", f"{_TOP + _SIDE * (1 - share):.1f}"
