"""From entries to what the page stores of each board: facts, rows, plots and details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.leaderboard.boards import BoardKey, group_boards
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.page.axis import choose_axis
from kd_bench.leaderboard.page.detail import details
from kd_bench.leaderboard.page.detections import DetectionFigures, detection_figures
from kd_bench.leaderboard.page.format import number, percent
from kd_bench.leaderboard.page.interning import Pool
from kd_bench.leaderboard.page.reported import Quote, ReportedTable, quotes, reported_table
from kd_bench.leaderboard.page.rows import board_rows
from kd_bench.leaderboard.pareto import Pareto, calibration_front, training_cost_front
from kd_bench.leaderboard.ranking import rank_board
from kd_bench.leaderboard.recipe_facts import recipe_facts
from kd_bench.leaderboard.summary import summarize
from kd_bench.reported import Reported
from kd_bench.results import TaskName, pair_slug, slug


@dataclass(frozen=True)
class Board:
    """One protocol and pair.

    Attributes:
        id: anchor, ``<protocol>/<student>__<teacher>``.
        key: what it compares.
        task: what the networks do.
        facts: what the script needs to know of it, but for rows and details.
        rows: one list a column, best row first, withdrawn rows last.
        details: one list a kind of fact, in the order of the rows.
        detections: curves and pictures of detectors.
        reported: the reported figures of the pair, or ``None``.
    """

    id: str
    key: BoardKey
    task: TaskName
    facts: dict[str, Any]
    rows: dict[str, list[Any]]
    details: dict[str, list[Any]]
    detections: DetectionFigures | None
    reported: ReportedTable | None


def make_boards(entries: Sequence[Entry], reported: Reported, pool: Pool) -> list[Board]:
    """Group entries by protocol and pair.

    Args:
        entries: in any order.
        reported: figures to show beside them; may be empty.
        pool: takes what many details share.

    Returns:
        The boards, ordered by protocol and pair.

    Raises:
        UserError: if a method occurs twice on a board, or predictions are missing or corrupt.
    """
    return [_board(key, group, reported, pool) for key, group in group_boards(entries).items()]


def _board(key: BoardKey, entries: Sequence[Entry], reported: Reported, pool: Pool) -> Board:
    board_id = f"{slug(key.protocol)}/{pair_slug(key.student, key.teacher)}"
    by_name = {entry.run_set.method.name: entry for entry in entries}
    if len(by_name) < len(entries):
        names = [entry.run_set.method.name for entry in entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(
            f"{', '.join(twice)} has more than one run set for {board_id}. Keep one of them: point at one results "
            "directory, not at a folder that holds several."
        )
    task = entries[0].run_set.task
    standing = [entry for entry in entries if not entry.withdrawn]
    ranks = {ranked.name: ranked for ranked in rank_board(standing)}
    ordered = [by_name[name] for name in ranks] + [entry for entry in entries if entry.withdrawn]
    names = [entry.run_set.method.name for entry in ordered]
    found = summarize([entry.run_set for entry in standing], columns_of(task).reference)
    summaries = {summary.name: summary for summary in found}
    aligned = [summaries.get(name) for name in names], [ranks.get(name) for name in names]
    named = quotes([entry.run_set for entry in entries], reported)
    figures = reported.of_pair(key.protocol, key.student, key.teacher)
    rows = board_rows(ordered, *aligned)
    facts = _facts(key, ordered, rows, [named.get(name) for name in names] if named else None)
    facts |= {"id": board_id, "place": [slug(key.protocol), pair_slug(key.student, key.teacher)]}
    facts["fronts"] = {
        "time": _front(training_cost_front(standing), names),
        **({"ece": _front(calibration_front(standing), names)} if task == "classification" else {}),
    }
    return Board(
        id=board_id,
        key=key,
        task=task,
        facts=facts,
        rows=rows,
        details=details(ordered, *aligned, pool),
        detections=detection_figures(ordered[: len(standing)]) if task == "detection" else None,
        reported=reported_table(figures, key.student, key.teacher),
    )


def _facts(
    key: BoardKey, entries: Sequence[Entry], rows: dict[str, list[Any]], quoted: Sequence[Quote | None] | None
) -> dict[str, Any]:
    first = entries[0].run_set
    means = [(mean, half) for mean, half in zip(rows["headline"], rows["half"], strict=True) if half is not None]
    ends = [end for mean, half in means for end in (mean - half, mean + half)]
    measured = [first.teacher.headline, *(value for entry in entries for value in entry.run_set.headlines())]
    axis = choose_axis([100 * value for value in measured], [100 * end for end in ends])
    return {
        "protocol": key.protocol,
        "student": key.student,
        "teacher": key.teacher,
        "task": first.task,
        "hash": first.protocol.hash[:12],
        "words": _words(entries),
        "teacherScore": round(first.teacher.headline, 6),
        "axis": [round(axis.low, 4), round(axis.high, 4), axis.step],
        "count": len(entries),
        "quotes": None
        if quoted is None
        else [quote and [quote.value, quote.selection, quote.origin] for quote in quoted],
    }


def _words(entries: Sequence[Entry]) -> str:
    run_sets = [entry.run_set for entry in entries]
    first = run_sets[0]
    facts = (
        f"Student {first.student.name} ({number(first.student.parameters, 0)} parameters), teacher "
        f"{first.teacher.name} ({number(first.teacher.parameters, 0)} parameters, {percent(first.teacher.headline)} "
        f"test {columns_of(first.task).headline})."
    )
    if len({run_set.teacher.weights_sha256 for run_set in run_sets}) > 1:
        facts += " Caution: not all rows were distilled from the same teacher weights."
    return f"{facts} {recipe_facts(first)}".rstrip()


def _front(pareto: Pareto, names: Sequence[str]) -> dict[str, Any]:
    """Rows on the front, cheapest first, and why others have no point."""
    places = {name: place for place, name in enumerate(names)}
    return {
        "cost": pareto.cost,
        "front": [places[point.name] for point in pareto.front],
        "leftOut": len(pareto.left_out),
        "reason": "; ".join(sorted(set(pareto.left_out.values()))),
    }
