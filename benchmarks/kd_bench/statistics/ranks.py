"""Ranks of methods on a board, and their average over boards."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def mid_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Ranks, 1 for the highest score; equal scores share the mean of their ranks.

    Args:
        scores: ``(methods,)`` or ``(boards, methods)``; ranked within each board.

    >>> mid_ranks([0.91, 0.94, 0.91, 0.90]).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    # means that are equal on paper must tie, whatever the order in which they were added
    rounded = np.round(np.asarray(scores, dtype=float), 12)
    return np.asarray(stats.rankdata(-rounded, axis=-1), dtype=float)


def average_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Mean of a method's mid-ranks over all boards.

    Args:
        scores: ``(boards, methods)``, higher is better.

    >>> average_ranks([[0.9, 0.8, 0.7], [0.5, 0.6, 0.4]]).tolist()
    [1.5, 1.5, 3.0]
    """
    return np.asarray(mid_ranks(scores).mean(axis=0), dtype=float)
