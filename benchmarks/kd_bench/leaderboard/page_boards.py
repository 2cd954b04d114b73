"""From run sets to what the page shows: one board a protocol and pair, rows sorted, ties found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from kd_bench.errors import UserError
from kd_bench.leaderboard.columns import TaskColumns, columns_of
from kd_bench.leaderboard.page_columns import Column, page_columns
from kd_bench.leaderboard.page_detections import DetectionFigures, detection_figures
from kd_bench.leaderboard.page_format import number, percent
from kd_bench.leaderboard.page_plot import Axis, Tick, choose_axis
from kd_bench.leaderboard.page_reliability import Place, reliability_entry
from kd_bench.leaderboard.page_reported import Quote, ReportedTable, quotes, reported_table
from kd_bench.leaderboard.page_rows import Row, board_rows
from kd_bench.leaderboard.recipe_facts import recipe_facts
from kd_bench.reported import Reported
from kd_bench.results import PLAIN, RunSet

MAX_NAMED_TIES = 8


@dataclass(frozen=True)
class Mark:
    """One row of the accuracy plot; positions are SVG lengths.

    Attributes:
        row_id: id of the table's row.
        name: the method.
        description: the numbers in words.
        mean: position of the mean.
        low: position of the interval's lower end, or an empty string without an interval.
        high: position of its upper end.
        seeds: positions of the single seeds.
        cut_low: whether the interval goes on beyond the left edge.
        cut_high: whether it goes on beyond the right edge.
    """

    row_id: str
    name: str
    description: str
    mean: str
    low: str
    high: str
    seeds: list[str]
    cut_low: bool
    cut_high: bool


@dataclass(frozen=True)
class Reference:
    """A line across the plot: the plain student or the teacher."""

    kind: str
    label: str
    x: str


@dataclass(frozen=True)
class Plot:
    """The plot of the headline."""

    ticks: list[Tick]
    marks: list[Mark]
    references: list[Reference]


@dataclass(frozen=True)
class Board:
    """One table with its figures.

    Attributes:
        id: anchor.
        protocol: protocol id.
        protocol_hash: hash of its recipe.
        student: student model.
        teacher: teacher model.
        facts: sizes and accuracies of both, in a sentence.
        families: families that occur, sorted.
        rows: the rows, best first.
        tie_note: which rows the data cannot tell from the best.
        task: what the task is judged by.
        columns: the columns of the table.
        plot: the plot of the headline.
        reliability: one entry a row that has predictions, in the order of the rows; classifiers only.
        detections: curves and pictures of detectors.
        quotes: row name → the reported figure that is named beside it; the rows are not sorted or compared by it.
        reported: the reported figures of the pair, or ``None``.
    """

    id: str
    protocol: str
    protocol_hash: str
    student: str
    teacher: str
    facts: str
    families: list[str]
    rows: list[Row]
    tie_note: str
    task: TaskColumns
    columns: list[Column]
    plot: Plot
    reliability: list[dict[str, Any]]
    detections: DetectionFigures | None
    quotes: dict[str, Quote]
    reported: ReportedTable | None


def make_boards(run_sets: Sequence[RunSet], folders: Mapping[Place, Path], reported: Reported) -> list[Board]:
    """Group run sets by protocol and pair.

    Args:
        run_sets: results in any order.
        folders: where their predictions lie; may be empty.
        reported: figures to show beside them; may be empty.

    Returns:
        The boards, ordered by protocol and pair.

    Raises:
        UserError: if a method occurs twice on a board, or predictions are missing or corrupt.
    """

    def key(run_set: RunSet) -> tuple[str, str]:
        return run_set.protocol.id, run_set.pair

    return [_board(list(group), folders, reported) for _, group in groupby(sorted(run_sets, key=key), key=key)]


def _board(run_sets: list[RunSet], folders: Mapping[Place, Path], reported: Reported) -> Board:
    first, task = run_sets[0], columns_of(run_sets[0].task)
    board_id = f"{first.protocol.id}/{first.pair}"
    rows = board_rows(run_sets, board_id)
    by_name = {run_set.method.name: run_set for run_set in run_sets}
    if len(by_name) < len(run_sets):
        names = [run_set.method.name for run_set in run_sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(
            f"{', '.join(twice)} has more than one run set for {board_id}. Keep one of them: point at one results "
            "directory, not at a folder that holds several."
        )
    entries: list[dict[str, Any] | None] = []
    figures_of_boxes = None
    if first.task == "classification":
        entries = [reliability_entry(by_name[row.name], folders) for row in rows]
    else:
        figures_of_boxes = detection_figures([by_name[row.name] for row in rows], folders)
    student, teacher = first.student.name, first.teacher.name
    figures = reported.of_pair(first.protocol.id, student, teacher)
    return Board(
        id=board_id,
        protocol=first.protocol.id,
        protocol_hash=first.protocol.hash,
        student=student,
        teacher=teacher,
        facts=_facts(run_sets),
        families=sorted({row.family for row in rows}),
        rows=rows,
        tie_note=_tie_note(rows),
        task=task,
        columns=page_columns(task),
        plot=_plot(rows, first.teacher.headline),
        reliability=[entry for entry in entries if entry],
        detections=figures_of_boxes,
        quotes=quotes(run_sets, reported),
        reported=reported_table(figures, student, teacher),
    )


def _facts(run_sets: list[RunSet]) -> str:
    student, teacher, headline = run_sets[0].student, run_sets[0].teacher, columns_of(run_sets[0].task).headline
    facts = (
        f"Student {student.name} ({number(student.parameters, 0)} parameters), teacher {teacher.name} "
        f"({number(teacher.parameters, 0)} parameters, {percent(teacher.headline)} test {headline})."
    )
    if len({run_set.teacher.weights_sha256 for run_set in run_sets}) > 1:
        facts += " Caution: not all rows were distilled from the same teacher weights."
    return f"{facts} {recipe_facts(run_sets[0])}".rstrip()


def _tie_note(rows: list[Row]) -> str:
    tied = [row.name for row in rows if row.tied and row is not rows[0]]
    if not tied:
        return f"No other row is tied with {rows[0].name}."
    if len(tied) > MAX_NAMED_TIES:
        return f"Tied with {rows[0].name}: {len(tied)} rows, shaded."
    return f"Tied with {rows[0].name}: {', '.join(tied)}."


def _plot(rows: list[Row], teacher_headline: float) -> Plot:
    measured = [100 * value for row in rows for value in row.headlines] + [100 * teacher_headline]
    ends = [100 * end for row in rows if row.interval for end in row.interval]
    axis = choose_axis(measured, ends)
    references = [_reference(axis, "student", "plain student", row.mean) for row in rows if row.name == PLAIN]
    references.append(_reference(axis, "teacher", "teacher", teacher_headline))
    return Plot(axis.ticks(), [_mark(axis, row) for row in rows], references)


def _reference(axis: Axis, kind: str, label: str, accuracy: float) -> Reference:
    return Reference(kind, f"{label} {percent(accuracy)}", axis.at(100 * accuracy))


def _mark(axis: Axis, row: Row) -> Mark:
    description = f"{row.name}: {percent(row.mean)}"
    if row.interval:
        description += f", 95 % interval {percent(row.interval[0])} to {percent(row.interval[1])}"
    return Mark(
        row_id=row.id,
        name=row.name,
        description=f"{description}, {len(row.headlines)} seeds",
        mean=axis.at(100 * row.mean),
        low=axis.at(100 * row.interval[0]) if row.interval else "",
        high=axis.at(100 * row.interval[1]) if row.interval else "",
        seeds=[axis.at(100 * value) for value in row.headlines],
        cut_low=row.interval is not None and not axis.holds(100 * row.interval[0]),
        cut_high=row.interval is not None and not axis.holds(100 * row.interval[1]),
    )
