"""The leaderboard in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

from kd_bench.errors import UserError
from kd_bench.leaderboard.summary import Summary, summarize
from kd_bench.reported import Reported
from kd_bench.results import PLAIN, RunSet

REFERENCE = "KD"
MISSING = "-"
REPORTED = "reported\nnot ours"

_LEFT_OUT_FIRST = (REPORTED, "p", "agrees\n%", "ECE\n%", "gap\nclosed", "time /\nplain")
_UNBOUNDED = 10_000


def leaderboard_table(
    run_sets: Sequence[RunSet], reference: str = REFERENCE, reported: Reported | None = None
) -> LeaderboardTable:
    """A table of all run sets, best mean accuracy first; fits 100 columns, and a narrow terminal with fewer columns.

    Args:
        run_sets: from :func:`kd_bench.results.load_run_sets`.
        reference: row that the others are compared with, seed by seed.
        reported: figures from papers, to be named beside the rows of the same method, pair and protocol; nothing is
            sorted or compared by them, and they are the first to go where the terminal is narrow.

    Raises:
        UserError: if there is no run set.
    """
    if not run_sets:
        raise UserError("there are no results to show; run `lightning-kd bench run` first")
    return LeaderboardTable(run_sets, reference, reported or Reported())


class LeaderboardTable:
    """What :func:`leaderboard_table` returns: prints as the widest table that fits the console."""

    def __init__(self, run_sets: Sequence[RunSet], reference: str, reported: Reported) -> None:
        self._reference, self._run_sets = reference, list(run_sets)
        ordered = sorted(run_sets, key=lambda one: (one.protocol.id, one.student.name, one.teacher.name))
        groups = groupby(ordered, key=lambda run_set: (run_set.protocol.id, run_set.pair))
        self._boards = [(board := list(group), summarize(board, reference)) for _, group in groups]
        self._quotes = [
            {name: f"{figure.value:f} {figure.selection}" for name, figure in reported.beside(board).items()}
            for board, _ in self._boards
        ]
        self._droppable = [name for name in _LEFT_OUT_FIRST if name != REPORTED or any(self._quotes)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Leave columns out until the table fits."""
        for count in range(len(self._droppable) + 1):
            table = self._table(self._droppable[:count])
            needed = Measurement.get(console, options.update(max_width=_UNBOUNDED), table).maximum
            if needed <= options.max_width:
                break
        yield table

    def _table(self, left_out: Sequence[str]) -> Table:
        with_reported = any(self._quotes) and REPORTED not in left_out
        caption = _caption(self._run_sets, self._reference, left_out, with_reported)
        table = Table(caption=caption, caption_justify="left", title_justify="left")
        for header in ("method", *_cells(self._boards[0][1][0], self._reference, left_out)):
            table.add_column(header, justify="left" if header == "method" else "right", no_wrap=True)
        if with_reported:
            table.add_column(REPORTED, style="dim italic", no_wrap=True)
        for (board, summaries), quotes in zip(self._boards, self._quotes, strict=True):
            first = board[0]
            parts = f"{first.protocol.id}:", f"{first.teacher.name} ({_percent(first.teacher.accuracy)} %)"
            if len(self._boards) == 1:
                table.title = f"{' '.join(parts)} → {first.student.name}"
            else:
                table.add_section()
                table.add_row("\n".join([*parts, f"→ {first.student.name}"]), style="bold")
            for summary in summaries:
                cells = [*_cells(summary, self._reference, left_out).values()]
                if with_reported:
                    cells.append(quotes.get(summary.name, MISSING))
                table.add_row(summary.name, *cells, style=None if summary.name != PLAIN else "dim")
        return table


def _cells(summary: Summary, reference: str, left_out: Sequence[str]) -> dict[str, str]:
    accuracy, comparison = summary.accuracy, summary.against_reference
    spread = "" if accuracy.half_width is None else f" ± {_percent(accuracy.half_width)}"
    difference = MISSING
    if comparison is not None:
        mark = _mark(comparison.separated, comparison.difference)
        difference = f"{mark}{100 * comparison.difference:+.2f} ± {_percent(comparison.half_width)}"
    cells = {
        "accuracy %\nmean ± 95 %": _percent(accuracy.mean) + spread,
        f"against {reference}\npoints ± 95 %": difference,
        "p": MISSING if comparison is None else f"{comparison.p_value:.3f}",
        "gap\nclosed": MISSING if summary.gap_closed is None else f"{round(100 * summary.gap_closed)} %",
        "ECE\n%": _percent(summary.ece),
        "agrees\n%": _percent(summary.agreement),
        "time /\nplain": MISSING if summary.relative_time is None else f"{summary.relative_time:.2f}",
    }
    return {header: cell for header, cell in cells.items() if header not in left_out}


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _mark(separated: bool, difference: float) -> str:
    if not separated:
        return "= "
    return "▲ " if difference > 0 else "▼ "


def _caption(run_sets: Sequence[RunSet], reference: str, left_out: Sequence[str], with_reported: bool) -> str:
    protocols = sorted({f"{run_set.protocol.id} (hash {run_set.protocol.hash[:12]})" for run_set in run_sets})
    counts = sorted({len(run_set.runs) for run_set in run_sets})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    protocol = ", ".join(protocols)
    lowest = f"p cannot be below {2.0 ** (1 - counts[-1]):.2g} with {counts[-1]} seeds" if counts[-1] > 1 else ""
    names = ", ".join(header.split("\n")[0] for header in left_out)
    narrow = f" Left out for want of width: {names}." if left_out else ""
    papers = " Reported: printed in papers for the same method and recipe, with the epoch that they chose."
    return (
        f"Protocol {protocol}; seeds: {seeds}; test accuracy after the last epoch; sorted by mean accuracy. "
        f"Against {reference}, paired by seed: ▲ above, ▼ below, = the 95 % t interval includes zero; "
        f"p: exact sign-flip test{f' ({lowest})' if lowest else ''}. "
        "Gap closed: (accuracy - plain) / (teacher - plain). Time: median of the seeds."
        f"{papers if with_reported else ''}{narrow}"
    )
