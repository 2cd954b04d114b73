"""What is unusual about an entry beside the rows of its board: none of it is a reproach, all of it is worth a look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from scipy import stats

from kd_bench.entries import Entry
from kd_bench.leaderboard.summary import relative_time
from kd_bench.results import PLAIN, RunSet
from kd_bench.statistics import variance_prior
from kd_bench.submission.seed_distances import seed_distances

FEWEST = 5
"""Rows that a board needs before a row can be unusual beside them."""

FASTER = 0.7
"""Training time, relative to the plain student's, below which a distillation is hard to believe."""

ALIKE = 1 / 3
"""Difference between two seeds, relative to the smallest of the board's baselines, below which they look like one."""

_VARIANCE_LEVEL = 0.002
_MADS = 8.0
_LEAST_DISTANCE = 0.01
_CURVE_DISTANCE = 0.03
_LARGEST_GAP = 2.0


@dataclass(frozen=True)
class Flag:
    """Something to look at.

    Attributes:
        rule: its name.
        message: what is unusual, with the numbers and the rule.
    """

    rule: str
    message: str


def unusual(entry: Entry, board: Sequence[Entry]) -> list[Flag]:
    """Everything unusual about an entry.

    Args:
        entry: the entry.
        board: the entries of the same protocol and pair; withdrawn ones and the entry itself are left out.
    """
    others = [one for one in board if one.path != entry.path and not one.withdrawn]
    rows = [one.run_set for one in others]
    flags = [flag for rule in _OF_NUMBERS for flag in rule(entry.run_set, rows)]
    return [*flags, *_alike_seeds(entry, others)]


def _beats_everything(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    if len(rows) < FEWEST:
        return
    best = max(rows, key=_mean)
    if _mean(run_set) > _mean(best):
        yield Flag(
            "beats-everything",
            f"beats everything on the board, all {len(rows)} rows: look twice. It is "
            f"{_points(_mean(run_set) - _mean(best))} above the best so far, {best.method.name}.",
        )


def _above_teacher(run_set: RunSet, _: Sequence[RunSet]) -> Iterator[Flag]:
    above = _mean(run_set) - run_set.teacher.headline
    if above > 0:
        yield Flag("above-teacher", f"the mean is {_points(above)} above the teacher.")


def _seeds(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    expected = {seed for row in rows if row.method.name == PLAIN for seed in row.seeds}
    if missing := sorted(expected - set(run_set.seeds)):
        yield Flag(
            "fewer-seeds",
            f"has {len(run_set.seeds)} seeds; the plain student also has {_list(missing)}. Ask why they were left out.",
        )


def _best_and_last(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    gap, others = _best_gap(run_set), [known for row in rows if (known := _best_gap(row)) is not None]
    if gap is None or len(others) < FEWEST:
        return
    if gap == 0 and median(others) > 0:
        yield Flag(
            "best-is-last",
            f"the last epoch is the best one of every seed; on the board the best is {_points(median(others))} above "
            "it (median). Make sure that the last epoch was not chosen.",
        )
    if gap > _LARGEST_GAP * max(others):
        yield Flag(
            "best-last-gap",
            f"the best epoch is {_points(gap)} above the last, more than {_LARGEST_GAP:g} times the most on the board "
            f"({_points(max(others))}).",
        )


def _spread(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    samples = [row.headlines() for row in rows if len(row.runs) > 1]
    if len(run_set.runs) < 2 or len(samples) < FEWEST:
        return
    prior = variance_prior([np.var(one, ddof=1) for one in samples], [len(one) - 1 for one in samples])
    if prior.degrees <= 0 or prior.variance <= 0:
        return
    ours, degrees = float(np.var(run_set.headlines(), ddof=1)), len(run_set.runs) - 1
    distribution = (
        stats.f(degrees, prior.degrees) if np.isfinite(prior.degrees) else stats.chi2(degrees, scale=1 / degrees)
    )
    below = float(distribution.cdf(ours / prior.variance))
    if min(below, 1 - below) < _VARIANCE_LEVEL / 2:
        yield Flag(
            "spread",
            f"the standard deviation over the seeds is {_points(ours**0.5)}, typical of the board is "
            f"{_points(prior.variance**0.5)}; much {'smaller' if below < 0.5 else 'larger'} (F test, p < "
            f"{_VARIANCE_LEVEL:g}).",
        )


def _calibration(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    yield from _far_from_board("ece", "the calibration error", run_set, rows, lambda row: _score(row, "ece"))


def _agreement(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    def beyond_accuracy(row: RunSet) -> float | None:
        # students that are right agree with a teacher that is right; what is telling is the rest
        agreement = _score(row, "agreement")
        return None if agreement is None else agreement - _mean(row)

    yield from _far_from_board(
        "agreement", "agreement with the teacher, less the accuracy,", run_set, rows, beyond_accuracy
    )


def _curves(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    yield from _far_from_board(
        "curve",
        "validation after the last epoch, less the test score,",
        run_set,
        rows,
        _validation_gap,
        least=_CURVE_DISTANCE,
    )


def _time(run_set: RunSet, rows: Sequence[RunSet]) -> Iterator[Flag]:
    for plain in rows:
        if plain.method.name == PLAIN and (ratio := relative_time(run_set, plain)) is not None and ratio < FASTER:
            yield Flag(
                "time",
                f"took {ratio:.2f} of the plain student's time on the same kind of machine; a distillation below "
                f"{FASTER:g} is hard to believe.",
            )


def _parameters(run_set: RunSet, _: Sequence[RunSet]) -> Iterator[Flag]:
    extra = max(run.extra_parameters for run in run_set.runs)
    most = run_set.teacher.parameters + run_set.student.parameters
    if extra > most:
        yield Flag(
            "extra-parameters",
            f"trains {extra:,} parameters beside the student, more than teacher and student have together ({most:,}).",
        )


_OF_NUMBERS: tuple[Callable[[RunSet, Sequence[RunSet]], Iterator[Flag]], ...] = (
    _beats_everything,
    _above_teacher,
    _seeds,
    _best_and_last,
    _spread,
    _calibration,
    _agreement,
    _curves,
    _time,
    _parameters,
)


def _alike_seeds(entry: Entry, others: Sequence[Entry]) -> Iterator[Flag]:
    """Two seeds that differ much less than those of the baselines do."""
    baselines = [
        known for one in others if one.run_set.method.name in (PLAIN, "KD") for known in seed_distances(one).values()
    ]
    found = seed_distances(entry)
    if not baselines or not found:
        return
    pair = min(found, key=lambda seeds: found[seeds])
    if found[pair] < ALIKE * min(baselines):
        yield Flag(
            "alike-seeds",
            f"the predictions of the seeds {pair[0]} and {pair[1]} differ by {found[pair]:.2g}, those of the baselines "
            f"by at least {min(baselines):.2g} (label's log-probability, in units of its own deviation).",
        )


def _far_from_board(
    rule: str,
    what: str,
    run_set: RunSet,
    rows: Sequence[RunSet],
    value: Callable[[RunSet], float | None],
    least: float = _LEAST_DISTANCE,
) -> Iterator[Flag]:
    """A value that is many median absolute deviations away from the board's median."""
    ours, others = value(run_set), [known for row in rows if (known := value(row)) is not None]
    if ours is None or len(others) < FEWEST:
        return
    middle = median(others)
    deviation = median(abs(one - middle) for one in others)
    if abs(ours - middle) > max(least, _MADS * deviation):
        yield Flag(
            rule,
            f"{what} is {_percent(ours)}, the board's median {_percent(middle)}; that is more than {_MADS:g} times the "
            f"median deviation of {_points(deviation)}, and than {_points(least)}.",
        )


def _mean(run_set: RunSet) -> float:
    # means that are equal on paper must be equal
    return round(fmean(run_set.headlines()), 12)


def _score(run_set: RunSet, name: str) -> float | None:
    scores = run_set.classification_scores()
    return fmean(getattr(one, name) for one in scores) if scores else None


def _best_gap(run_set: RunSet) -> float | None:
    gaps = [run.best.accuracy - run.last.headline for run in run_set.runs if run.best is not None]
    return fmean(gaps) if gaps else None


def _validation_gap(run_set: RunSet) -> float | None:
    gaps = [run.curve.validation[-1] - run.last.headline for run in run_set.runs if run.curve.validation is not None]
    return fmean(gaps) if gaps else None


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds[:10])) + (" …" if len(seeds) > 10 else "")
