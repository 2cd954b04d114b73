"""The leaderboard in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from textwrap import wrap

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

from kd_bench.errors import UserError
from kd_bench.leaderboard.columns import ScoreColumn, columns_of
from kd_bench.leaderboard.ranking import rank_board
from kd_bench.leaderboard.summary import Summary, summarize
from kd_bench.reported import Reported
from kd_bench.results import PLAIN, RunSet, TaskName

MISSING = "-"
REPORTED = "reported\nnot ours"

_RANK, _GAP, _TIME, _P = "rank", "gap\n%", "time /\nplain", "p"
_NARROW = {"agreement": "agrees"}
_UNBOUNDED = 10_000
_MODEL_WIDTH = 30


def leaderboard_table(
    run_sets: Sequence[RunSet], reference: str | None = None, reported: Reported | None = None
) -> LeaderboardTable:
    """A table for each task, best mean score first; fits 100 columns, and a narrow terminal with fewer columns.

    Args:
        run_sets: from :func:`kd_bench.run_set_files.load_run_sets`.
        reference: row that the others are compared with, seed by seed; by default plain KD, or, for detectors, the
            plain student.
        reported: figures from papers, to be named beside the rows of the same method, pair and protocol; nothing is
            sorted or compared by them, and they are the first to go where the terminal is narrow.

    Raises:
        UserError: if there is no run set.
    """
    if not run_sets:
        raise UserError("there are no results to show; run `lightning-kd bench run` first")
    return LeaderboardTable(run_sets, reference, reported or Reported())


class LeaderboardTable:
    """What :func:`leaderboard_table` returns: prints as the widest table of each task that fits the console."""

    def __init__(self, run_sets: Sequence[RunSet], reference: str | None, reported: Reported) -> None:
        tasks = sorted({run_set.task for run_set in run_sets})
        self._tables = [
            _TaskTable([run_set for run_set in run_sets if run_set.task == task], task, reference, reported)
            for task in tasks
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Leave columns out until the tables fit."""
        for table in self._tables:
            yield table.fitted(console, options)


class _TaskTable:
    def __init__(self, run_sets: Sequence[RunSet], task: TaskName, reference: str | None, reported: Reported) -> None:
        self._run_sets, self._columns = list(run_sets), columns_of(task)
        self._reference = reference or self._columns.reference
        ordered = sorted(run_sets, key=lambda one: (one.protocol.id, one.student.name, one.teacher.name))
        groups = groupby(ordered, key=lambda run_set: (run_set.protocol.id, run_set.pair))
        self._boards = [(board := list(group), summarize(board, self._reference)) for _, group in groups]
        self._ranks = [{row.name: row.rank for row in rank_board(board)} for board, _ in self._boards]
        self._quotes = [
            {name: f"{figure.value:f} {figure.selection}" for name, figure in reported.beside(board).items()}
            for board, _ in self._boards
        ]
        scores = [_header(column) for column in self._columns.others if column.in_terminal]
        first = [REPORTED] if any(self._quotes) else []
        self._droppable = [*first, _P, *reversed(scores), _GAP, _TIME, _RANK]

    def fitted(self, console: Console, options: ConsoleOptions) -> Table:
        for count in range(len(self._droppable) + 1):
            table = self._table(self._droppable[:count])
            needed = Measurement.get(console, options.update(max_width=_UNBOUNDED), table).maximum
            if needed <= options.max_width:
                break
        return table

    def _table(self, left_out: Sequence[str]) -> Table:
        with_reported = any(self._quotes) and REPORTED not in left_out
        table = Table(caption=self._caption(left_out, with_reported), caption_justify="left", title_justify="left")
        for header in ("method", *self._cells(self._boards[0][1][0], "", left_out)):
            table.add_column(header, justify="left" if header == "method" else "right", no_wrap=True)
        if with_reported:
            table.add_column(REPORTED, style="dim italic", no_wrap=True)
        for (board, summaries), ranks, quotes in zip(self._boards, self._ranks, self._quotes, strict=True):
            first = board[0]
            parts = f"{first.protocol.id}:", f"{first.teacher.name} ({_percent(first.teacher.headline)} %)"
            if len(self._boards) == 1:
                table.title = f"{' '.join(parts)} → {first.student.name}"
            else:
                table.add_section()
                lines = [*parts, f"→ {first.student.name}"]
                table.add_row("\n".join(_folded(line) for line in lines), style="bold")
            for summary in summaries:
                cells = [*self._cells(summary, ranks[summary.name], left_out).values()]
                if with_reported:
                    cells.append(quotes.get(summary.name, MISSING))
                table.add_row(summary.name, *cells, style=None if summary.name != PLAIN else "dim")
        return table

    def _cells(self, summary: Summary, rank: str, left_out: Sequence[str]) -> dict[str, str]:
        headline, comparison, columns = summary.headline, summary.against_reference, self._columns
        spread = "" if headline.half_width is None else f" ± {_percent(headline.half_width)}"
        difference = MISSING
        if comparison is not None:
            mark = _mark(comparison.separated, comparison.difference)
            difference = f"{mark}{100 * comparison.difference:+.2f} ± {_percent(comparison.half_width)}"
        cells = {
            _RANK: rank,
            f"{columns.headline} %\nmean ± 95 %": _percent(headline.mean) + spread,
            f"against {self._reference}\npoints ± 95 %": difference,
            _P: MISSING if comparison is None else f"{comparison.p_value:.3f}",
            _GAP: MISSING if summary.gap_closed is None else f"{round(100 * summary.gap_closed)}",
            **{_header(column): _score(summary, column) for column in columns.others if column.in_terminal},
            _TIME: MISSING if summary.relative_time is None else f"{summary.relative_time:.2f}",
        }
        return {header: cell for header, cell in cells.items() if header not in left_out}

    def _caption(self, left_out: Sequence[str], with_reported: bool) -> str:
        run_sets, headline = self._run_sets, self._columns.headline
        protocols = sorted({f"{run_set.protocol.id} (hash {run_set.protocol.hash[:12]})" for run_set in run_sets})
        counts = sorted({len(run_set.runs) for run_set in run_sets})
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        protocol = ", ".join(protocols)
        lowest = f" (p cannot be below {2.0 ** (1 - counts[-1]):.2g} with {counts[-1]} seeds)" if counts[-1] > 1 else ""
        p_value = "" if _P in left_out else f"; p: exact sign-flip test{lowest}"
        names = ", ".join(header.split("\n")[0] for header in left_out)
        narrow = f" Left out for want of width: {names}." if left_out else ""
        ranks = (
            ""
            if _RANK in left_out
            else " Rank: the places that the seeds leave open; all pairs of rows compared by paired t tests that share "
            "what they know of the noise, Holm-adjusted for their number."
        )
        papers = " Reported: printed in papers for the same method and recipe, with the epoch that they chose."
        return (
            f"Protocol {protocol}; seeds: {seeds}; test {headline} after the last epoch; sorted by mean {headline}. "
            f"Against {self._reference}, paired by seed: ▲ above, ▼ below, = the 95 % t interval includes zero"
            f"{p_value}.{ranks} "
            f"Gap: closed of the teacher's lead, ({headline} - plain) / (teacher - plain). Time: median of the seeds."
            f"{papers if with_reported else ''}{narrow}"
        )


def _header(column: ScoreColumn) -> str:
    return f"{_NARROW.get(column.key, column.title)}\n{column.unit}"


def _folded(text: str) -> str:
    """Names of models may be longer than what the columns leave of a terminal, and have no spaces."""
    return "\n".join(wrap(text, _MODEL_WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _score(summary: Summary, column: ScoreColumn) -> str:
    value = summary.others[column.key]
    return MISSING if value is None else f"{column.factor * value:.{column.digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _mark(separated: bool, difference: float) -> str:
    if not separated:
        return "= "
    return "▲ " if difference > 0 else "▼ "
