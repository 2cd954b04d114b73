"""The rows that are readable without a script: the best of every board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.page.boards import Board
from kd_bench.leaderboard.page.format import percent

MOST_ROWS = 300
"""On the whole page; no board shows more than an even share of them, and every board shows its best."""


@dataclass(frozen=True)
class TopRow:
    """One row as text.

    Attributes:
        board: its board.
        rank: the places that the data leave open.
        method: the method.
        score: mean and half the 95 % interval.
        headline: what the score is.
        badge: how far it was verified.
    """

    board: str
    rank: str
    method: str
    score: str
    headline: str
    badge: str


def top_rows(boards: Sequence[Board]) -> list[TopRow]:
    """The best rows of every board, withdrawn ones left out."""
    each = max(1, MOST_ROWS // len(boards))
    return [row for board in boards for row in _rows(board, each)]


def _rows(board: Board, most: int) -> list[TopRow]:
    rows = board.rows
    standing = [place for place, low in enumerate(rows["low"]) if low is not None]
    return [
        TopRow(
            board.key.label,
            _rank(rows["low"][place], rows["high"][place]),
            rows["method"][place],
            _score(rows["headline"][place], rows["half"][place]),
            columns_of(board.task).headline,
            rows["badge"][place],
        )
        for place in standing[:most]
    ]


def _rank(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}\N{EN DASH}{high}"


def _score(mean: float, half: float | None) -> str:
    return percent(mean) if half is None else f"{percent(mean)} ± {percent(half)}"
