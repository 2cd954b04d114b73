"""What more accuracy costs: the rows that no other row beats on both counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from kd_bench.entries import Entry, entry_path
from kd_bench.leaderboard.boards import standing
from kd_bench.leaderboard.summary import relative_time
from kd_bench.results import PLAIN, RunSet


@dataclass(frozen=True)
class ParetoPoint:
    """A row as a point of the plane.

    Attributes:
        name: the method.
        path: ``<protocol>/<method>/<student>__<teacher>``.
        headline: mean accuracy, or AP; higher is better.
        cost: what it costs; lower is better.
        on_front: whether no row has at least its headline at no more than its cost, and one of them better.
    """

    name: str
    path: str
    headline: float
    cost: float
    on_front: bool


@dataclass(frozen=True)
class Pareto:
    """A board's points.

    Attributes:
        points: cheapest first, then by name.
        left_out: method → why it has no point.
        cost: what the cost is, in words.
    """

    points: tuple[ParetoPoint, ...]
    left_out: dict[str, str]
    cost: str

    @property
    def front(self) -> tuple[ParetoPoint, ...]:
        """The points on the front, cheapest first."""
        return tuple(point for point in self.points if point.on_front)


def training_cost_front(board: Sequence[Entry] | Sequence[RunSet]) -> Pareto:
    """Headline against training time, relative to the plain student's on the same machine.

    Args:
        board: entries or run sets of one protocol and one pair; withdrawn entries are left out.
    """
    rows = standing(board)
    plain = next((row for row in rows if row.method.name == PLAIN), None)
    reason = "there is no plain row to compare its time with" if plain is None else "it ran on another machine"

    def cost(row: RunSet) -> float | None:
        return None if plain is None else relative_time(row, plain)

    return _pareto(rows, cost, reason, "training time, relative to the plain student's")


def calibration_front(board: Sequence[Entry] | Sequence[RunSet]) -> Pareto:
    """Accuracy against expected calibration error; detectors have none.

    Args:
        board: entries or run sets of one protocol and one pair; withdrawn entries are left out.
    """

    def cost(row: RunSet) -> float | None:
        scores = row.classification_scores()
        return fmean(one.ece for one in scores) if scores else None

    return _pareto(standing(board), cost, "detectors have no calibration error", "expected calibration error")


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points no other point beats.

    Args:
        points: (headline, cost); equal points do not beat each other.

    Returns:
        One answer a point, in the same order.

    >>> pareto_front([(0.9, 1.0), (0.8, 2.0), (0.95, 3.0), (0.95, 3.0)])
    [True, False, True, True]
    """
    answers = [False] * len(points)
    best = float("-inf")
    order = sorted(range(len(points)), key=lambda place: (points[place][1], -points[place][0]))
    last: tuple[float, float] | None = None
    for place in order:
        if points[place][0] > best or points[place] == last:
            answers[place], best, last = True, points[place][0], points[place]
    return answers


def _pareto(rows: Sequence[RunSet], cost: Callable[[RunSet], float | None], reason: str, words: str) -> Pareto:
    measured: list[tuple[RunSet, float, float]] = []
    left_out: dict[str, str] = {}
    for row in rows:
        price = cost(row)
        if price is None:
            left_out[row.method.name] = reason
        else:
            measured.append((row, fmean(row.headlines()), price))
    answers = pareto_front([(headline, price) for _, headline, price in measured])
    points = [
        ParetoPoint(row.method.name, entry_path(row), headline, price, answer)
        for (row, headline, price), answer in zip(measured, answers, strict=True)
    ]
    return Pareto(tuple(sorted(points, key=lambda point: (point.cost, point.name))), left_out, words)
