"""What unfolds under the rows of a board: one list a kind of fact, in the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd_bench.corrections import Correction
from kd_bench.entries import Entry
from kd_bench.leaderboard.page.curves import packed_curves
from kd_bench.leaderboard.page.interning import Pool
from kd_bench.leaderboard.page.recipe import citation_of, command_of, environment_of, settings_of
from kd_bench.leaderboard.page.reliability import reliability_summary
from kd_bench.leaderboard.ranking import Ranked
from kd_bench.leaderboard.summary import Summary
from kd_bench.results import Run
from kd_bench.verification.record import VerificationRecord

PRECISIONS = {
    "ap": "AP",
    "ap_50": "AP50",
    "ap_75": "AP75",
    "ap_small": "AP S",
    "ap_medium": "AP M",
    "ap_large": "AP L",
    "ar_1": "AR1",
    "ar_10": "AR10",
    "ar_100": "AR100",
}
"""Scores of a detector's seeds, with their headings."""

_CLASSIFICATION = ("accuracy", "nll", "ece", "agreement")


def details(
    board: Sequence[Entry], summaries: Sequence[Summary | None], ranks: Sequence[Ranked | None], pool: Pool
) -> dict[str, list[Any]]:
    """Gather the details of a board.

    Args:
        board: its entries, in the order of the rows.
        summaries: one an entry; ``None`` of those that were withdrawn.
        ranks: one an entry; ``None`` of those that were withdrawn.
        pool: what is the same in many details goes there, and its place stands in for it.

    Returns:
        Kind of fact → one value an entry.

    Raises:
        UserError: if one of several predictions files is missing, is corrupt, or is not the one that was written by
            the run.
    """
    rows = [_detail(*row, pool) for row in zip(board, summaries, ranks, strict=True)]
    return {kind: [row[kind] for row in rows] for kind in rows[0]}


def _detail(entry: Entry, summary: Summary | None, ranked: Ranked | None, pool: Pool) -> dict[str, Any]:
    run_set, method = entry.run_set, entry.run_set.method
    return {
        "seeds": pool.place(run_set.seeds),
        "scores": _scores(run_set.runs),
        "seconds": [float(f"{run.seconds:.4g}") for run in run_set.runs],
        "memory": [None if run.peak_memory_mb is None else round(run.peak_memory_mb) for run in run_set.runs],
        "devices": pool.place(tuple(run.device for run in run_set.runs)),
        "curves": list(packed_curves(run_set.runs).values()),
        "settings": pool.place(tuple(settings_of(run_set))),
        "environment": pool.place(tuple(environment_of(run_set))),
        "citation": pool.place(citation_of(run_set)),
        "command": command_of(entry),
        "licence": pool.place(method.licence or ""),
        "contact": pool.place(run_set.contact or ""),
        "reference": _against_reference(summary),
        "best": _against_best(ranked),
        "verifications": [_verification(record, entry.sha256) for record in entry.verifications],
        "corrections": [_correction(one) for one in entry.corrections],
        "reliability": reliability_summary(entry) if run_set.task == "classification" else None,
    }


def _scores(runs: Sequence[Run]) -> list[list[float | None]]:
    """One list a score, one value a seed; of a classifier also accuracy and number of its best epoch."""
    columns = [
        [_rounded(getattr(run.last, name)) for run in runs]
        for name in (PRECISIONS if runs[0].best is None else _CLASSIFICATION)
    ]
    best = [run.best for run in runs if run.best is not None]
    if best:
        columns += [[_rounded(one.accuracy) for one in best], [one.epoch + 1 for one in best]]
    return columns


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _against_reference(summary: Summary | None) -> list[float] | None:
    test = None if summary is None else summary.against_reference
    if test is None:
        return None
    return [round(test.difference, 6), round(test.half_width, 6), test.n, float(f"{test.p_value:.3g}")]


def _against_best(ranked: Ranked | None) -> list[float] | None:
    if ranked is None or ranked.difference is None or ranked.half_width is None or ranked.p_value is None:
        return None
    return [round(ranked.difference, 6), round(ranked.half_width, 6), float(f"{ranked.p_value:.3g}")]


def _verification(record: VerificationRecord, sha256: str) -> list[Any]:
    """Date, who, level, tolerances, whether it is of the present state of the file, and remarks."""
    present = record.run_set_sha256 == sha256
    tolerances = record.tolerance, record.mean_tolerance
    return [record.date, record.by, record.level, *tolerances, int(present), list(record.remarks)]


def _correction(one: Correction) -> list[Any]:
    """Date, kind, who, reason, and what else it has: address of the evidence, challenge that it answers, badge left."""
    return [one.date, one.kind, one.by, one.reason, one.evidence, one.answers, one.badge, one.id]
