"""Methods across pairs and protocols: average ranks, and how far apart they must lie (Demšar's diagram, as data)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from kd_bench.entries import Entry
from kd_bench.leaderboard.boards import BoardKey, group_boards, standing
from kd_bench.results import RunSet
from kd_bench.statistics import FriedmanTest, average_ranks, critical_difference, friedman_test

FEWEST_METHODS = 3
FEWEST_BOARDS = 2
_STARTS = 20


@dataclass(frozen=True)
class AverageRank:
    """A method's mean place over the boards; equal means share a place."""

    name: str
    rank: float


@dataclass(frozen=True)
class CriticalDifference:
    """What the diagram shows.

    Attributes:
        boards: the boards, in the order of their keys.
        methods: the methods that all of them have, best average rank first, then by name.
        critical_difference: average ranks that lie further apart than this differ (Nemenyi's test at ``alpha``).
        bars: names of methods whose average ranks all lie within one critical difference, best first: the longest such
            runs of at least two methods.
        friedman: whether the methods differ at all.
        alpha: level of the tests.
        left_out_methods: method → number of the chosen boards that lack it.
        left_out_boards: board → number of the chosen methods that it lacks.
    """

    boards: tuple[BoardKey, ...]
    methods: tuple[AverageRank, ...]
    critical_difference: float
    bars: tuple[tuple[str, ...], ...]
    friedman: FriedmanTest
    alpha: float
    left_out_methods: dict[str, int]
    left_out_boards: dict[BoardKey, int]

    @property
    def separates(self) -> bool:
        """Whether any two methods lie further apart than the critical difference."""
        return self.methods[-1].rank - self.methods[0].rank > self.critical_difference


def critical_difference_diagram(
    entries: Sequence[Entry] | Sequence[RunSet], alpha: float = 0.05
) -> CriticalDifference | None:
    """Average ranks over the largest complete block: methods × boards without a gap.

    Ranks cannot be averaged over boards that lack a method. Of the blocks found by adding, again and again, the board
    that leaves most methods, the one with most results is taken; of equal ones the one with more boards.

    Args:
        entries: of any protocols and pairs; withdrawn ones are left out.
        alpha: level of the tests.

    Returns:
        The data of the diagram, or ``None`` if no three methods share two boards.
    """
    means = {
        key: {row.method.name: fmean(row.headlines()) for row in board}
        for key, board in group_boards(standing(entries)).items()
    }
    block = _largest_block({key: frozenset(board) for key, board in means.items()})
    if block is None:
        return None
    boards, names = block
    scores = np.array([[means[key][name] for name in names] for key in boards])
    methods = sorted(
        (AverageRank(name, float(rank)) for name, rank in zip(names, average_ranks(scores), strict=True)),
        key=lambda method: (round(method.rank, 9), method.name),
    )
    distance = critical_difference(len(names), len(boards), alpha)
    others = {name for board in means.values() for name in board} - set(names)
    return CriticalDifference(
        boards=boards,
        methods=tuple(methods),
        critical_difference=distance,
        bars=_bars(methods, distance),
        friedman=friedman_test(scores),
        alpha=alpha,
        left_out_methods={name: sum(name not in means[key] for key in boards) for name in sorted(others)},
        left_out_boards={key: sum(name not in means[key] for name in names) for key in means if key not in boards},
    )


def _largest_block(
    boards: Mapping[BoardKey, frozenset[str]],
) -> tuple[tuple[BoardKey, ...], tuple[str, ...]] | None:
    """Boards and the methods that all of them have; the start is tried from each of the fullest boards."""
    keys_of: dict[frozenset[str], list[BoardKey]] = {}
    for key, names in boards.items():
        keys_of.setdefault(names, []).append(key)
    fullest = sorted(keys_of, key=lambda names: (-len(names), sorted(names)))
    best: tuple[int, int, tuple[BoardKey, ...], tuple[str, ...]] | None = None
    for start in fullest[:_STARTS]:
        shared, left = start, [names for names in fullest if names != start]
        chosen = list(keys_of[start])
        while True:
            if len(shared) < FEWEST_METHODS:
                break
            if len(chosen) >= FEWEST_BOARDS:
                size = len(shared) * len(chosen)
                if best is None or (size, len(chosen)) > best[:2]:
                    best = size, len(chosen), tuple(sorted(chosen)), tuple(sorted(shared))
            if not left:
                break
            following = max(left, key=lambda names: (len(shared & names), len(keys_of[names])))
            left.remove(following)
            shared &= following
            chosen += keys_of[following]
    return None if best is None else best[2:]


def _bars(methods: Sequence[AverageRank], distance: float) -> tuple[tuple[str, ...], ...]:
    bars: list[tuple[str, ...]] = []
    covered = 0
    for first, method in enumerate(methods):
        end = max(place for place, other in enumerate(methods) if other.rank - method.rank <= distance + 1e-9) + 1
        if end > covered and end - first > 1:
            bars.append(tuple(one.name for one in methods[first:end]))
            covered = end
    return tuple(bars)
