"""The rows of the leaderboard that a method has in this repository, as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from kd_bench.leaderboard.columns import TaskColumns, columns_of
from kd_bench.leaderboard.summary import Summary, summarize
from kd_bench.results import PLAIN, RunSet
from kd_bench.run_set_files import RUN_SET_FILE, load_run_sets

from lightning_kd.cli.method_table import NOTHING


def committed_results(root: Path) -> list[RunSet]:
    """The run sets below ``leaderboards/results``; none where nothing has been measured yet.

    Args:
        root: the repository.
    """
    folder = root / "leaderboards" / "results"
    return load_run_sets(folder) if any(folder.rglob(RUN_SET_FILE)) else []


def measured_tables(name: str, run_sets: Sequence[RunSet]) -> Iterator[str]:
    """One table a board on which the method was run: its rows beside the plain student and the reference.

    Args:
        name: the method's class.
        run_sets: everything that was measured.
    """
    ordered = sorted(run_sets, key=lambda run_set: (run_set.protocol.id, run_set.pair))
    for _, group in groupby(ordered, key=lambda run_set: (run_set.protocol.id, run_set.pair)):
        board = list(group)
        ours = {run_set.method.name for run_set in board if _class_of(run_set) == name}
        if ours:
            reference = columns_of(board[0].task).reference
            shown = ours | {PLAIN, reference}
            yield _table(board, [row for row in summarize(board, reference) if row.name in shown])


def _class_of(run_set: RunSet) -> str:
    """The library's class that ran; somebody else's may have the same name."""
    path = run_set.method.class_path or ""
    return path.rsplit(".", 1)[-1] if path.startswith("lightning_kd.") else ""


def _table(board: Sequence[RunSet], rows: Sequence[Summary]) -> str:
    first, task = board[0], columns_of(board[0].task)
    scores = [f"{column.title}, {column.unit}" for column in task.others if column.in_terminal]
    headings = [
        *("row", f"{task.headline}, % ± 95 %", f"against {task.reference}, points ± 95 %", "gap closed"),
        *scores,
    ]
    lines = [
        f"`{first.protocol.id}`, {first.teacher.name} ({_percent(first.teacher.headline)} %) → {first.student.name}:",
        "",
        f"| {' | '.join(headings)} |",
        "|" + "---|" * len(headings),
    ]
    return "\n".join([*lines, *("| " + " | ".join(_cells(row, task)) + " |" for row in rows)])


def _cells(row: Summary, task: TaskColumns) -> Iterator[str]:
    headline, against = row.headline, row.against_reference
    yield row.name
    yield _percent(headline.mean) + ("" if headline.half_width is None else f" ± {_percent(headline.half_width)}")
    yield NOTHING if against is None else f"{100 * against.difference:+.2f} ± {_percent(against.half_width)}"
    yield NOTHING if row.gap_closed is None else f"{100 * row.gap_closed:.0f} %"
    for column in task.others:
        if column.in_terminal:
            value = row.others[column.key]
            yield NOTHING if value is None else f"{column.factor * value:.{column.digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
