"""What a leaderboard shows of a run set; derived anew each time, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kd_bench.leaderboard.columns import columns_of
from kd_bench.results import PLAIN, RunSet
from kd_bench.statistics import MeanInterval, PairedTest, gap_closed, mean_interval, paired_test, paired_tests


@dataclass(frozen=True)
class Summary:
    """One row of a leaderboard.

    Attributes:
        name: row name.
        headline: mean test accuracy (AP of detectors) after the last epoch, with its interval.
        against_reference: comparison with the reference row on the seeds that both have; ``None`` for the reference
            itself, or with fewer than two common seeds.
        gap_closed: share of the gap between plain student and teacher; ``None`` without a plain row, or where the
            teacher is not better.
        others: means of the scores of :func:`~kd_bench.leaderboard.columns.columns_of` by key.
        relative_time: median training time relative to the plain student's; ``None`` without a plain row that was
            run on the same processor and device.
    """

    name: str
    headline: MeanInterval
    against_reference: PairedTest | None
    gap_closed: float | None
    others: dict[str, float | None]
    relative_time: float | None


def summarize(board: Sequence[RunSet], reference: str) -> list[Summary]:
    """Rows of one board, best mean headline first.

    Args:
        board: run sets of one protocol and one pair.
        reference: row that the others are compared with.
    """
    by_name = {run_set.method.name: run_set for run_set in board}
    plain, compared_with = by_name.get(PLAIN), by_name.get(reference)
    student = None if plain is None else mean_interval(plain.headlines()).mean
    tests = {} if compared_with is None else compare_all(board, compared_with)
    columns = columns_of(board[0].task).others if board else ()
    rows = []
    for run_set in board:
        headline, name = mean_interval(run_set.headlines()), run_set.method.name
        rows.append(
            Summary(
                name=name,
                headline=headline,
                against_reference=tests.get(name),
                gap_closed=None if student is None else gap_closed(headline.mean, student, run_set.teacher.headline),
                others={column.key: column.value(run_set) for column in columns},
                relative_time=None if plain is None else relative_time(run_set, plain),
            )
        )
    return sorted(rows, key=lambda row: (-row.headline.mean, row.name))


def compare(run_set: RunSet, reference: RunSet) -> PairedTest | None:
    """Headline scores paired by seed, on the seeds that both have; ``None`` with fewer than two of them."""
    common, ours, theirs = shared_headlines(run_set, reference)
    return paired_test(ours, theirs) if len(common) >= 2 else None


def compare_all(board: Sequence[RunSet], reference: RunSet) -> dict[str, PairedTest]:
    """:func:`compare` for all rows at once, by name; without the reference, and rows with fewer than two shared seeds.

    Args:
        board: run sets of one protocol and one pair.
        reference: the row that they are compared with.
    """
    by_seeds: dict[tuple[int, ...], list[tuple[str, list[float], list[float]]]] = {}
    for run_set in board:
        if run_set.method.name != reference.method.name:
            common, ours, theirs = shared_headlines(run_set, reference)
            by_seeds.setdefault(common, []).append((run_set.method.name, ours, theirs))
    tests: dict[str, PairedTest] = {}
    for common, rows in by_seeds.items():
        if len(common) >= 2:
            found = paired_tests([ours for _, ours, _ in rows], [theirs for _, _, theirs in rows])
            tests |= {name: test for (name, _, _), test in zip(rows, found, strict=True)}
    return tests


def shared_headlines(first: RunSet, second: RunSet) -> tuple[tuple[int, ...], list[float], list[float]]:
    """The seeds that two run sets share, ascending, and the headlines of both on them."""
    ours = {run.seed: run.last.headline for run in first.runs}
    theirs = {run.seed: run.last.headline for run in second.runs}
    common = tuple(sorted(ours.keys() & theirs.keys()))
    return common, [ours[seed] for seed in common], [theirs[seed] for seed in common]


def relative_time(run_set: RunSet, reference: RunSet) -> float | None:
    """Median training time, relative to another row's; ``None`` if they ran on different processors or devices."""
    if _machine(run_set) != _machine(reference):
        return None
    return median(run.seconds for run in run_set.runs) / median(run.seconds for run in reference.runs)


def _machine(run_set: RunSet) -> tuple[str, ...]:
    return run_set.environment.cpu, *sorted({run.device for run in run_set.runs})
