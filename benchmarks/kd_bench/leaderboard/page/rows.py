"""The rows of the table: one list a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd_bench.entries import Entry
from kd_bench.leaderboard.family import family_of
from kd_bench.leaderboard.page.recipe import citation_of
from kd_bench.leaderboard.ranking import Ranked
from kd_bench.leaderboard.summary import Summary
from kd_bench.results import PLAIN
from kd_bench.statistics import mean_interval

EXTRA_DATA, WITHDRAWN, CHALLENGED, LEADING, BASELINE_ROW, CORRECTED = (1 << bit for bit in range(6))
"""Bits of a row's flags."""


def board_rows(
    board: Sequence[Entry], summaries: Sequence[Summary | None], ranks: Sequence[Ranked | None]
) -> dict[str, list[Any]]:
    """The columns of one board.

    Args:
        board: its entries, in the order wanted.
        summaries: one an entry; ``None`` of those that were withdrawn.
        ranks: one an entry; ``None`` of those that were withdrawn.

    Returns:
        Key of the column → one value a row; ``None`` where there is no number.
    """
    rows = [_row(*row) for row in zip(board, summaries, ranks, strict=True)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {key: [row.get(key) for row in rows] for key in keys}


def _row(entry: Entry, summary: Summary | None, ranked: Ranked | None) -> dict[str, Any]:
    run_set = entry.run_set
    headline = mean_interval(run_set.headlines()) if summary is None else summary.headline
    memory = [run.peak_memory_mb for run in run_set.runs if run.peak_memory_mb is not None]
    others = {} if summary is None else summary.others
    return {
        "method": run_set.method.name,
        "family": family_of(run_set),
        "track": run_set.track,
        "badge": entry.badge,
        "low": None if ranked is None else ranked.low,
        "high": None if ranked is None else ranked.high,
        "headline": round(headline.mean, 6),
        "half": _rounded(headline.half_width),
        "gap": _rounded(None if summary is None else summary.gap_closed),
        **{key: _rounded(value) for key, value in others.items()},
        "time": _rounded(None if summary is None else summary.relative_time),
        "memory": round(max(memory)) if memory else None,
        "seeds": len(run_set.runs),
        "flags": _flags(entry, ranked),
        "paper": citation_of(run_set)[0],
    }


def _flags(entry: Entry, ranked: Ranked | None) -> int:
    """What is true of a row, one bit each."""
    bits = {
        EXTRA_DATA: entry.run_set.extra_data,
        WITHDRAWN: entry.withdrawn,
        CHALLENGED: entry.challenged,
        LEADING: ranked is not None and ranked.leading,
        BASELINE_ROW: entry.run_set.method.name == PLAIN,
        CORRECTED: any(one.kind in ("correction", "demotion") for one in entry.corrections),
    }
    return sum(bit for bit, holds in bits.items() if holds)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
