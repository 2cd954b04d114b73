"""Ranks that the data can bear: a row's rank is the range of places that its seeds leave open.

The rule. On a board, every pair of rows is compared by a paired t test on the seeds that both have. With three or five
seeds a pair's own variance is mostly luck, so it is moderated by those of all pairs of the board
(:mod:`kd_bench.statistics.moderation`). The p-values are adjusted by Holm over all pairs: a board without any true
difference shows a separated pair with a chance of at most 5 %. A row's rank then reaches from one more than the number
of rows that are separated above it, to the number of rows that are not separated below it, itself included.

Permutation and sign tests cannot decide here: with three seeds they never go below 0.25, with five never below 0.0625.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd_bench.entries import Entry, entry_path
from kd_bench.leaderboard.boards import standing
from kd_bench.results import RunSet
from kd_bench.statistics import Pairwise, pairwise_comparisons

CONFIDENCE = 0.95
"""One minus the chance of any false separation on a board."""


@dataclass(frozen=True)
class Ranked:
    """The place of a row on its board.

    Attributes:
        name: the method.
        path: ``<protocol>/<method>/<student>__<teacher>``.
        mean: mean headline over the seeds.
        seeds: number of seeds.
        low: best place that the data leave open, from 1.
        high: worst place that they leave open.
        group: letter; rows that no row is separated above have ``a``, rows that only those of ``a`` are separated above
            have ``b``, and so on.
        difference: mean of (this row - best row) by shared seed; ``None`` for the best row itself, and with fewer than
            two shared seeds.
        half_width: half the width of the difference's interval; all intervals of a board hold together in 95 of 100
            boards.
        p_value: of that difference, adjusted for all pairs of the board.
    """

    name: str
    path: str
    mean: float
    seeds: int
    low: int
    high: int
    group: str
    difference: float | None
    half_width: float | None
    p_value: float | None

    @property
    def rank(self) -> str:
        """For a table: ``3``, or ``1–4`` where the data cannot decide."""
        return str(self.low) if self.low == self.high else f"{self.low}\N{EN DASH}{self.high}"

    @property
    def leading(self) -> bool:
        """Whether no row is separated above it."""
        return self.low == 1

    @property
    def separated(self) -> bool:
        """Whether it is separated from the row with the highest mean."""
        return self.p_value is not None and self.p_value < 1 - CONFIDENCE


def rank_board(board: Sequence[Entry] | Sequence[RunSet]) -> list[Ranked]:
    """Rank the rows of one board.

    Args:
        board: entries or run sets of one protocol and one pair; withdrawn entries are left out.

    Returns:
        The rows, highest mean first, then by name; the same whatever the order of the input.
    """
    rows = sorted(standing(board), key=lambda one: (-_mean(one), one.method.name))
    if not rows:
        return []
    found = pairwise_comparisons(seed_matrix(rows))
    above, below = found.better.sum(axis=0), found.better.sum(axis=1)
    groups = _groups(found.better)
    return [
        Ranked(
            name=row.method.name,
            path=entry_path(row),
            mean=_mean(row),
            seeds=len(row.runs),
            low=1 + int(above[place]),
            high=len(rows) - int(below[place]),
            group=_letter(groups[place]),
            **_to_best(found, place),
        )
        for place, row in enumerate(rows)
    ]


def rows_above(board: Sequence[Entry] | Sequence[RunSet], name: str) -> list[str]:
    """Names of the rows that are separated above a row, by the same comparisons as the ranks.

    Args:
        board: entries or run sets of one protocol and one pair; withdrawn entries are left out.
        name: of the row; if the board lacks it, no row is above it.
    """
    rows = standing(board)
    places = [place for place, row in enumerate(rows) if row.method.name == name]
    if not places:
        return []
    better = pairwise_comparisons(seed_matrix(rows)).better[:, places[0]]
    return sorted(row.method.name for row, above in zip(rows, better, strict=True) if above)


def seed_matrix(rows: Sequence[RunSet]) -> NDArray[np.float64]:
    """Headlines, ``(rows, seeds)``: one column for every seed that any row has, NaN where a row lacks it.

    Args:
        rows: run sets in the order wanted.
    """
    columns = {seed: place for place, seed in enumerate(sorted({run.seed for row in rows for run in row.runs}))}
    table = np.full((len(rows), len(columns)), np.nan)
    for place, row in enumerate(rows):
        for run in row.runs:
            table[place, columns[run.seed]] = run.last.headline
    return table


def _mean(row: RunSet) -> float:
    # means that are equal on paper must tie, whatever the order in which they were added
    return round(float(np.mean(row.headlines())), 12)


def _to_best(found: Pairwise, place: int) -> dict[str, float | None]:
    if place == 0 or found.seeds[place, 0] < 2:
        return {"difference": None, "half_width": None, "p_value": None}
    matrices = {"difference": found.difference, "half_width": found.half_width, "p_value": found.p_value}
    return {name: float(matrix[place, 0]) for name, matrix in matrices.items()}


def _groups(better: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of a row's group: peel off, again and again, the rows that no row left is separated above."""
    groups, left = np.zeros(len(better), dtype=np.int64), np.ones(len(better), dtype=bool)
    number = 0
    while left.any():
        top = left & ~better[left].any(axis=0)
        if not top.any():  # rows with different seeds can be above each other in a circle
            top = left.copy()
        groups[top] = number
        left &= ~top
        number += 1
    return groups


def _letter(number: int) -> str:
    """Letters in the manner of a spreadsheet.

    >>> [_letter(number) for number in (0, 25, 26, 701, 702)]
    ['a', 'z', 'aa', 'zz', 'aaa']
    """
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text
