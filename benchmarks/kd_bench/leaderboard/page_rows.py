"""The rows of a table: derived numbers, sorted by accuracy, ties with the best marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from kd_bench.leaderboard.page_detail import Detail, detail
from kd_bench.leaderboard.page_format import Cell, number, number_cell
from kd_bench.results import PLAIN, Run, RunSet
from kd_bench.statistics import PairedTest, gap_closed, mean_interval, paired_test

BASELINE = "baseline"
CUSTOM = "custom"
REFERENCE = "KD"

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
        mean: mean last-epoch test accuracy.
        interval: its 95 % interval, or ``None`` with a single seed.
        accuracies: one accuracy a seed.
        tied: whether it is the best row or cannot be told apart from it.
        tag: the same in words, or an empty string.
        cells: the numeric columns, in their order.
        verification: how far somebody else checked the numbers.
        search: what the text filter looks at.
        comparison: the difference to plain KD in a sentence, or an empty string.
        detail: what unfolds.
    """

    id: str
    name: str
    family: str
    baseline: bool
    mean: float
    interval: tuple[float, float] | None
    accuracies: list[float]
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
        The rows, highest mean accuracy first, then by name.
    """
    ordered = sorted(run_sets, key=lambda run_set: (-fmean(run_set.accuracies()), run_set.method.name))
    by_name = {run_set.method.name: run_set for run_set in ordered}
    return [_row(run_set, ordered[0], by_name.get(PLAIN), by_name.get(REFERENCE), board_id) for run_set in ordered]


def family_of(run_set: RunSet) -> str:
    """Family of a run set's method, read from the path of its class."""
    if run_set.method.class_path is None:
        return BASELINE
    root, _, rest = run_set.method.class_path.partition(".methods.")
    return rest.partition(".")[0] if root == "lightning_kd" else CUSTOM


def _row(run_set: RunSet, best: RunSet, plain: RunSet | None, reference: RunSet | None, board_id: str) -> Row:
    accuracies = run_set.accuracies()
    accuracy = mean_interval(accuracies)
    method, family = run_set.method, family_of(run_set)
    unfolded = detail(run_set)
    tied = run_set is best or _inseparable(run_set, best)
    return Row(
        id=f"{board_id}/{method.name}",
        name=method.name,
        family=family,
        baseline=method.class_path is None,
        mean=accuracy.mean,
        interval=None if accuracy.half_width is None else (accuracy.low, accuracy.high),
        accuracies=accuracies,
        tied=tied,
        tag="best" if run_set is best else "tied" if tied else "",
        cells=_cells(run_set, plain),
        verification=run_set.verification,
        search=f"{method.name} {family} {unfolded.citation}",
        comparison=_comparison(run_set, reference),
        detail=unfolded,
    )


def _cells(run_set: RunSet, plain: RunSet | None) -> list[Cell]:
    accuracy = mean_interval(run_set.accuracies())
    gap = None if plain is None else gap_closed(accuracy.mean, fmean(plain.accuracies()), run_set.teacher.accuracy)
    memory = [run.peak_memory_mb for run in run_set.runs if run.peak_memory_mb is not None]
    return [
        number_cell(accuracy.mean, 2, factor=100, margin=accuracy.half_width),
        number_cell(gap, 0, factor=100),
        number_cell(_mean(run_set, lambda run: run.last.ece), 2, factor=100),
        number_cell(_mean(run_set, lambda run: run.last.nll), 3),
        number_cell(_mean(run_set, lambda run: run.last.agreement), 2, factor=100),
        number_cell(_relative_time(run_set, plain), 2),
        number_cell(max(memory) if memory else None, 0),
        number_cell(len(run_set.runs), 0),
    ]


def _relative_time(run_set: RunSet, plain: RunSet | None) -> float | None:
    """Time of a training relative to the plain student's on the same machine; ``None`` where that is unknown."""
    if plain is None or _machine(run_set) != _machine(plain):
        return None
    return _mean(run_set, lambda run: run.seconds) / _mean(plain, lambda run: run.seconds)


def _machine(run_set: RunSet) -> tuple[str, ...]:
    return run_set.environment.cpu, *sorted({run.device for run in run_set.runs})


def _mean(run_set: RunSet, score: Callable[[Run], float]) -> float:
    return fmean(map(score, run_set.runs))


def _inseparable(run_set: RunSet, best: RunSet) -> bool:
    test = _paired(run_set, best)
    return test is not None and not test.separated


def _comparison(run_set: RunSet, reference: RunSet | None) -> str:
    if reference is None or run_set is reference:
        return ""
    test = _paired(run_set, reference)
    if test is None:
        return ""
    return (
        f"Against {REFERENCE}, paired over {test.n} seeds: {number(100 * test.difference, 2)} points "
        f"± {number(100 * test.half_width, 2)} (95 % interval), sign-flip p = {test.p_value:.2g}."
    )


def _paired(first: RunSet, second: RunSet) -> PairedTest | None:
    ours, theirs = (dict(zip(each.seeds, each.accuracies(), strict=True)) for each in (first, second))
    seeds = sorted(ours.keys() & theirs.keys())
    return paired_test([ours[s] for s in seeds], [theirs[s] for s in seeds]) if len(seeds) > 1 else None
