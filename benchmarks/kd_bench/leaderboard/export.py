"""All entries as a table for other programs: ``results.csv`` and ``results.json``, one line an entry.

Scores, intervals and gaps are fractions, as in the result files, whatever unit the page shows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from kd_bench.entries import Entry
from kd_bench.leaderboard.boards import group_boards
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.family import family_of
from kd_bench.leaderboard.ranking import Ranked, rank_board
from kd_bench.leaderboard.summary import relative_time
from kd_bench.results import PLAIN, RunSet, TaskName
from kd_bench.statistics import gap_closed, mean_interval
from kd_bench.storage import write_atomic

CSV_FILE, JSON_FILE = "results.csv", "results.json"

_TASKS: tuple[TaskName, ...] = ("classification", "detection")
_SCORES = tuple(column.key for task in _TASKS for column in columns_of(task).others)
# what spreadsheets take for the start of a formula, the wide forms of East Asian keyboards included
_FORMULA_STARTS = tuple("=+-@" + "".join(chr(ord(sign) + 0xFEE0) for sign in "=+-@"))


def write_exports(entries: Sequence[Entry], folder: Path) -> tuple[Path, Path]:
    """Write both files into a folder; the same entries give the same bytes.

    Args:
        entries: all entries, in any order.
        folder: where to; the page's own.

    Returns:
        The CSV and the JSON file.
    """
    records = export_records(entries)
    table, tree = folder / CSV_FILE, folder / JSON_FILE
    write_atomic(table, to_csv(records).encode())
    write_atomic(tree, to_json(records).encode())
    return table, tree


def export_records(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What is known and derived of each entry, under the same keys for all; ``None`` where there is nothing.

    Args:
        entries: all entries, in any order; ranks and gaps are relative to the others of their board.

    Returns:
        Records by board, best mean first, withdrawn entries after the ranked ones.
    """
    return [record for board in group_boards(entries).values() for record in _board_records(board)]


def to_csv(records: Sequence[dict[str, Any]]) -> str:
    """A table with a header; numbers are bare, what is missing is empty, and no text is taken for a formula.

    Args:
        records: of :func:`export_records`; what is not a single value is left out.
    """
    buffer = io.StringIO()
    names = [name for name, value in records[0].items() if not isinstance(value, list)] if records else []
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(record[name]) for name in names] for record in records)
    return buffer.getvalue()


def to_json(records: Sequence[dict[str, Any]]) -> str:
    """The same with every seed's headline, one entry a line.

    Args:
        records: of :func:`export_records`.
    """
    lines = ",\n".join(json.dumps(record, allow_nan=False) for record in records)
    return f'{{"schema_version": 1, "entries": [\n{lines}\n]}}\n'


def _board_records(board: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    ranks = {ranked.path: ranked for ranked in rank_board(board)}
    places = {path: place for place, path in enumerate(ranks)}
    plain = next((entry.run_set for entry in board if entry.run_set.method.name == PLAIN and not entry.withdrawn), None)
    for entry in sorted(board, key=lambda one: places.get(one.path, len(places))):
        record = _record(entry, ranks.get(entry.path), plain)
        # the last digits depend on the processor; nobody needs them
        yield {name: round(value, 10) if isinstance(value, float) else value for name, value in record.items()}


def _record(entry: Entry, ranked: Ranked | None, plain: RunSet | None) -> dict[str, Any]:
    run_set, method, runs = entry.run_set, entry.run_set.method, entry.run_set.runs
    task = columns_of(run_set.task)
    headline = mean_interval(run_set.headlines())
    student = None if plain is None else mean_interval(plain.headlines()).mean
    scores = {column.key: column.value(run_set) for column in task.others}
    memory = [run.peak_memory_mb for run in runs if run.peak_memory_mb is not None]
    return {
        "protocol": run_set.protocol.id,
        "protocol_hash": run_set.protocol.hash,
        "teacher": run_set.teacher.name,
        "student": run_set.student.name,
        "method": method.name,
        "family": family_of(run_set),
        "track": run_set.track,
        "badge": entry.badge,
        "challenged": entry.challenged,
        "withdrawn": entry.withdrawn,
        "extra_data": run_set.extra_data,
        "rank_low": None if ranked is None else ranked.low,
        "rank_high": None if ranked is None else ranked.high,
        "rank_group": None if ranked is None else ranked.group,
        "headline": task.headline,
        "seeds": len(runs),
        "mean": headline.mean,
        "half_width": headline.half_width,
        "gap_closed": None if student is None else gap_closed(headline.mean, student, run_set.teacher.headline),
        **{name: scores.get(name) for name in _SCORES},
        "relative_time": None if plain is None else relative_time(run_set, plain),
        "seconds": median(run.seconds for run in runs),
        "peak_memory_mb": max(memory, default=None),
        "extra_parameters": max(run.extra_parameters for run in runs),
        "student_parameters": run_set.student.parameters,
        "teacher_headline": run_set.teacher.headline,
        "licence": method.licence,
        "class_path": method.class_path,
        "paper": None if method.citation is None else method.citation.title,
        "arxiv": None if method.citation is None else method.citation.arxiv,
        "entry": entry.path,
        "runs": [{"seed": run.seed, "headline": run.last.headline} for run in runs],
    }


def _cell(value: str | float | bool | None) -> str | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # on one line: not every program reads line breaks inside a cell as they are meant
        line = "".join(sign if sign.isprintable() else " " for sign in value)
        # an apostrophe in front makes spreadsheets show the text as it is
        return f"'{line}" if line.lstrip().startswith(_FORMULA_STARTS) else line
    return value
