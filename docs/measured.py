"""The rows of the leaderboard that a method has in this repository, as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from kd_bench.leaderboard.summary import Summary, summarize
from kd_bench.leaderboard.table import REFERENCE
from kd_bench.results import PLAIN, RUN_SET_FILE, RunSet, load_run_sets

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
            shown = ours | {PLAIN, REFERENCE}
            yield _table(board, [row for row in summarize(board, REFERENCE) if row.name in shown])


def _class_of(run_set: RunSet) -> str:
    return (run_set.method.class_path or "").rsplit(".", 1)[-1]


def _table(board: Sequence[RunSet], rows: Sequence[Summary]) -> str:
    first = board[0]
    lines = [
        f"`{first.protocol.id}`, {first.teacher.name} ({_percent(first.teacher.accuracy)} %) → {first.student.name}:",
        "",
        f"| row | accuracy, % ± 95 % | against {REFERENCE}, points ± 95 % | gap closed | ECE, % | agreement, % |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(_cells(row)) + " |" for row in rows)])


def _cells(row: Summary) -> Iterator[str]:
    accuracy, against = row.accuracy, row.against_reference
    yield row.name
    yield _percent(accuracy.mean) + ("" if accuracy.half_width is None else f" ± {_percent(accuracy.half_width)}")
    yield NOTHING if against is None else f"{100 * against.difference:+.2f} ± {_percent(against.half_width)}"
    yield NOTHING if row.gap_closed is None else f"{100 * row.gap_closed:.0f} %"
    yield _percent(row.ece)
    yield _percent(row.agreement)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
