"""The leaderboard in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.table import Table

from kd_bench.errors import UserError
from kd_bench.leaderboard.summary import Summary, summarize
from kd_bench.results import PLAIN, RunSet

REFERENCE = "KD"
MISSING = "-"


def leaderboard_table(run_sets: Sequence[RunSet], reference: str = REFERENCE) -> Table:
    """A table of all run sets, best mean accuracy first; fits 100 columns.

    Args:
        run_sets: from :func:`kd_bench.results.load_run_sets`.
        reference: row that the others are compared with, seed by seed.

    Raises:
        UserError: if there is no run set.
    """
    if not run_sets:
        raise UserError("there are no results to show; run `lightning-kd bench run` first")
    ordered = sorted(run_sets, key=lambda run_set: (run_set.protocol.id, run_set.student.name, run_set.teacher.name))
    table = Table(caption=_caption(run_sets, reference), caption_justify="left", title_justify="left")
    table.add_column("method", overflow="fold")
    table.add_column("accuracy %\nmean ± 95 %", justify="right", no_wrap=True)
    table.add_column(f"against {reference}\npoints ± 95 %", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("gap\nclosed", justify="right", no_wrap=True)
    table.add_column("ECE\n%", justify="right", no_wrap=True)
    table.add_column("agrees\n%", justify="right", no_wrap=True)
    table.add_column("time /\nplain", justify="right", no_wrap=True)
    boards = [list(group) for _, group in groupby(ordered, key=lambda run_set: (run_set.protocol.id, run_set.pair))]
    for board in boards:
        first = board[0]
        parts = f"{first.protocol.id}:", f"{first.teacher.name} ({_percent(first.teacher.accuracy)} %)"
        if len(boards) == 1:
            table.title = f"{' '.join(parts)} → {first.student.name}"
        else:
            table.add_section()
            table.add_row("\n".join([*parts, f"→ {first.student.name}"]), style="bold")
        for summary in summarize(board, reference):
            table.add_row(*_cells(summary), style=None if summary.name != PLAIN else "dim")
    return table


def _cells(summary: Summary) -> tuple[str, ...]:
    accuracy, comparison = summary.accuracy, summary.against_reference
    return (
        summary.name,
        _percent(accuracy.mean) + (f" ± {_percent(accuracy.half_width)}" if accuracy.half_width is not None else ""),
        MISSING
        if comparison is None
        else f"{_mark(comparison.separated, comparison.difference)}"
        f"{100 * comparison.difference:+.2f} ± {_percent(comparison.half_width)}",
        MISSING if comparison is None else f"{comparison.p_value:.3f}",
        MISSING if summary.gap_closed is None else f"{round(100 * summary.gap_closed)} %",
        _percent(summary.ece),
        _percent(summary.agreement),
        MISSING if summary.relative_time is None else f"{summary.relative_time:.2f}",
    )


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _mark(separated: bool, difference: float) -> str:
    if not separated:
        return "= "
    return "▲ " if difference > 0 else "▼ "


def _caption(run_sets: Sequence[RunSet], reference: str) -> str:
    protocols = sorted({f"{run_set.protocol.id} (hash {run_set.protocol.hash[:12]})" for run_set in run_sets})
    counts = sorted({len(run_set.runs) for run_set in run_sets})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    protocol = ", ".join(protocols)
    lowest = f"p cannot be below {2.0 ** (1 - counts[-1]):.2g} with {counts[-1]} seeds" if counts[-1] > 1 else ""
    return (
        f"Protocol {protocol}; seeds: {seeds}; test accuracy after the last epoch; sorted by mean accuracy. "
        f"Against {reference}, paired by seed: ▲ above, ▼ below, = the 95 % t interval includes zero; "
        f"p: exact sign-flip test{f' ({lowest})' if lowest else ''}. "
        "Gap closed: (accuracy - plain) / (teacher - plain). Time: median of the seeds."
    )
