"""The rows of a table: derived numbers, sorted by the headline, ties with the best marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.page_detail import Detail, detail
from kd_bench.leaderboard.page_format import Cell, number, number_cell
from kd_bench.leaderboard.summary import Summary, compare, summarize
from kd_bench.results import RunSet

BASELINE = "baseline"
CUSTOM = "custom"

TIE_RULE = (
    "The 95 % t-interval of the difference to the best row, paired by seed, includes zero: these seeds do not tell the "
    "two apart."
)


@dataclass(frozen=True)
class Row:
    """One method of a table.

    Attributes:
        id: anchor.
        name: the method.
        family: family of the method, :data:`BASELINE` or :data:`CUSTOM`.
        baseline: whether it is the plain student.
        mean: mean last-epoch test accuracy (AP of detectors).
        interval: its 95 % interval, or ``None`` with a single seed.
        headlines: one a seed.
        tied: whether it is the best row or cannot be told apart from it.
        tag: the same in words, or an empty string.
        cells: the numeric columns, in their order.
        verification: how far somebody else checked the numbers.
        search: what the text filter looks at.
        comparison: the difference to the row of reference in a sentence, or an empty string.
        detail: what unfolds.
    """

    id: str
    name: str
    family: str
    baseline: bool
    mean: float
    interval: tuple[float, float] | None
    headlines: list[float]
    tied: bool
    tag: str
    cells: list[Cell]
    verification: str
    search: str
    comparison: str
    detail: Detail


def board_rows(run_sets: Sequence[RunSet], board_id: str) -> list[Row]:
    """Build the rows of one protocol and pair.

    Args:
        run_sets: run sets of one protocol and pair, at least one.
        board_id: prefix of the rows' anchors.

    Returns:
        The rows, highest mean first, then by name.
    """
    by_name = {run_set.method.name: run_set for run_set in run_sets}
    summaries = summarize(run_sets, columns_of(run_sets[0].task).reference)
    best = by_name[summaries[0].name]
    return [_row(summary, by_name[summary.name], best, board_id) for summary in summaries]


def family_of(run_set: RunSet) -> str:
    """Family of a run set's method, read from the path of its class."""
    if run_set.method.class_path is None:
        return BASELINE
    root, _, rest = run_set.method.class_path.partition(".methods.")
    return rest.partition(".")[0] if root == "lightning_kd" else CUSTOM


def _row(summary: Summary, run_set: RunSet, best: RunSet, board_id: str) -> Row:
    headline, method, family = summary.headline, run_set.method, family_of(run_set)
    unfolded = detail(run_set)
    tied = run_set is best or _inseparable(run_set, best)
    return Row(
        id=f"{board_id}/{method.name}",
        name=method.name,
        family=family,
        baseline=method.class_path is None,
        mean=headline.mean,
        interval=None if headline.half_width is None else (headline.low, headline.high),
        headlines=run_set.headlines(),
        tied=tied,
        tag="best" if run_set is best else "tied" if tied else "",
        cells=_cells(summary, run_set),
        verification=run_set.verification,
        search=f"{method.name} {family} {unfolded.citation}",
        comparison=_comparison(summary, columns_of(run_set.task).reference),
        detail=unfolded,
    )


def _cells(summary: Summary, run_set: RunSet) -> list[Cell]:
    memory = [run.peak_memory_mb for run in run_set.runs if run.peak_memory_mb is not None]
    return [
        number_cell(summary.headline.mean, 2, factor=100, margin=summary.headline.half_width),
        number_cell(summary.gap_closed, 0, factor=100),
        *(
            number_cell(summary.others[column.key], column.digits, factor=column.factor)
            for column in columns_of(run_set.task).others
        ),
        number_cell(summary.relative_time, 2),
        number_cell(max(memory) if memory else None, 0),
        number_cell(len(run_set.runs), 0),
    ]


def _inseparable(run_set: RunSet, best: RunSet) -> bool:
    test = compare(run_set, best)
    return test is not None and not test.separated


def _comparison(summary: Summary, reference: str) -> str:
    test = summary.against_reference
    if test is None:
        return ""
    return (
        f"Against {reference}, paired over {test.n} seeds: {number(100 * test.difference, 2)} points "
        f"± {number(100 * test.half_width, 2)} (95 % interval), sign-flip p = {test.p_value:.2g}."
    )
