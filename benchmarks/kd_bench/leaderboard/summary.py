"""What a leaderboard shows of a run set; derived anew each time, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kd_bench.leaderboard.columns import columns_of
from kd_bench.results import PLAIN, RunSet
from kd_bench.statistics import MeanInterval, PairedTest, gap_closed, mean_interval, paired_test


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
    rows = [_summary(run_set, by_name.get(PLAIN), by_name.get(reference)) for run_set in board]
    return sorted(rows, key=lambda row: (-row.headline.mean, row.name))


def compare(run_set: RunSet, reference: RunSet) -> PairedTest | None:
    """Headline scores paired by seed, on the seeds that both have; ``None`` with fewer than two of them."""
    ours = {run.seed: run.last.headline for run in run_set.runs}
    theirs = {run.seed: run.last.headline for run in reference.runs}
    common = sorted(ours.keys() & theirs.keys())
    if len(common) < 2:
        return None
    return paired_test([ours[seed] for seed in common], [theirs[seed] for seed in common])


def _summary(run_set: RunSet, plain: RunSet | None, reference: RunSet | None) -> Summary:
    headline = mean_interval(run_set.headlines())
    return Summary(
        name=run_set.method.name,
        headline=headline,
        against_reference=None if reference is None or reference is run_set else compare(run_set, reference),
        gap_closed=None
        if plain is None
        else gap_closed(headline.mean, mean_interval(plain.headlines()).mean, run_set.teacher.headline),
        others={column.key: column.value(run_set) for column in columns_of(run_set.task).others},
        relative_time=None if plain is None else _relative_time(run_set, plain),
    )


def _relative_time(run_set: RunSet, plain: RunSet) -> float | None:
    if _machine(run_set) != _machine(plain):
        return None
    return median(run.seconds for run in run_set.runs) / median(run.seconds for run in plain.runs)


def _machine(run_set: RunSet) -> tuple[str, ...]:
    return run_set.environment.cpu, *sorted({run.device for run in run_set.runs})
