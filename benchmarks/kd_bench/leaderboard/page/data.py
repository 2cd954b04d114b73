"""The page's data: JSON for its script, columns rather than records, shared values stored once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from kd_bench.entries import Entry
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.critical_difference import critical_difference_diagram
from kd_bench.leaderboard.page.boards import Board
from kd_bench.leaderboard.page.detail import PRECISIONS
from kd_bench.leaderboard.page.interning import Pool
from kd_bench.results import TaskName
from kd_bench.verification.record import LEVELS

_SHARED = ("family", "track", "badge", "paper")


def table_data(boards: Sequence[Board], entries: Sequence[Entry], pool: Pool) -> dict[str, Any]:
    """Everything but the details.

    Args:
        boards: in the order of the page.
        entries: all of them.
        pool: what the details share; complete by now.
    """
    keys = list(dict.fromkeys(key for board in boards for key in board.rows))
    rows = {key: [value for board in boards for value in _column(board, key)] for key in keys}
    shared = {}
    for key in _SHARED:
        values = sorted(set(rows[key])) if key != "badge" else [level for level in LEVELS if level in rows[key]]
        places = {value: place for place, value in enumerate(values)}
        shared[key] = values
        rows[key] = [places[value] for value in rows[key]]
    return {
        "boards": [board.facts for board in boards],
        "tasks": {task: _task(task) for task in sorted({board.task for board in boards})},
        "shared": shared,
        "rows": rows,
        "across": _across(entries),
        "pool": pool.values,
    }


def json_for_script(value: Any) -> Markup:
    """JSON that cannot end the script element that it stands in, whatever text it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _column(board: Board, key: str) -> list[Any]:
    return board.rows.get(key) or [None] * board.facts["count"]


def _task(name: TaskName) -> dict[str, Any]:
    task = columns_of(name)
    return {
        "headline": task.headline,
        "unit": task.unit,
        "reference": task.reference,
        "axis": task.axis,
        "columns": [
            {
                "key": column.key,
                "title": column.title,
                "unit": column.unit,
                "digits": column.digits,
                "factor": column.factor,
                "first": column.first,
            }
            for column in task.others
        ],
        "seedColumns": list(PRECISIONS.values()) if name == "detection" else None,
    }


def _across(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Average ranks over boards, with what they must differ by."""
    diagram = critical_difference_diagram(entries)
    if diagram is None:
        return None
    names = [method.name for method in diagram.methods]
    return {
        "boards": [key.label for key in diagram.boards],
        "names": names,
        "ranks": [round(method.rank, 4) for method in diagram.methods],
        "distance": round(diagram.critical_difference, 4),
        "bars": [[names.index(bar[0]), names.index(bar[-1])] for bar in diagram.bars],
        "p": float(f"{diagram.friedman.p_value:.3g}"),
        "leftOutMethods": len(diagram.left_out_methods),
        "leftOutBoards": len(diagram.left_out_boards),
    }
