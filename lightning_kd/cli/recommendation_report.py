"""What `lightning-kd leaderboard recommend` shows: what to try, in which order, why, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.evidence import Candidate, Evidence
from kd_bench.leaderboard.recommendation import Recommendation
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lightning_kd.cli.numbers import MISSING, percent, points, share, times

IN_FULL = 3
"""Up to this many boards have a table of their own."""

NAMED = 8
"""So many methods or boards are named; of more, the number."""


def recommendation_report(found: Recommendation, budget: float | None = None) -> Iterator[RenderableType]:
    """The parts to print.

    Args:
        found: what was found.
        budget: the largest relative training time that was asked for.
    """
    names = [candidate.name for candidate in found.candidates]
    order = f", then {', then '.join(names[1:])}" if len(names) > 1 else ""
    yield Text.assemble("Try ", (names[0], "bold"), f" first{order}.")
    yield Text(
        f"From {found.nearest.sentence}. Of {found.considered} methods these are the ones that nothing is shown to "
        "beat and that gain most for their time, cheapest first."
    )
    for caution in found.cautions:
        yield Text(f"Caution: {caution}", style="yellow")
    if len(found.boards) > 1:
        yield _averages(found)
    for board in found.boards if len(found.boards) <= IN_FULL else ():
        yield _board(
            [(one, evidence) for one in found.candidates for evidence in one.evidence if evidence.board == board]
        )
    yield from (Text(_notes(candidate)) for candidate in found.candidates)
    if found.tied:
        yield Text(f"Nothing is shown to beat these either: {_listed(found.tied)}.")
    if found.over_budget and budget is not None:
        name, time = next(iter(found.over_budget.items()))
        count = len(found.over_budget)
        yield Text(f"Over the budget of {budget:g}: {_methods(count)}, the cheapest {name} with {time:.2f}.")
    if found.unknown_time:
        yield Text(
            f"Left out, for their time cannot be compared with the plain student's: {_listed(found.unknown_time)}."
        )


def _board(rows: Sequence[tuple[Candidate, Evidence]]) -> Table:
    first = rows[0][1]
    task = "classification" if first.against_plain is None else first.against_plain.task
    title = f"{first.board.label}: {columns_of(task).headline}, {first.rows} rows"
    table = Table(title=title, title_justify="left", caption_justify="left")
    calibrated = any(one.against_plain is not None and "ece" in one.against_plain.scores for _, one in rows)
    table.add_column("method", overflow="fold", min_width=8)
    headers = ["over plain\npoints ± 95 %", "rank", "gap\nclosed", "time /\nplain"]
    for header in (*headers, *(["ECE %\n(plain)"] if calibrated else []), "seeds"):
        table.add_column(header, justify="right", no_wrap=True)
    for candidate, one in rows:
        against = one.against_plain
        gain = against.test if against is not None else None
        table.add_row(
            candidate.name,
            MISSING if gain is None else points(gain.difference, gain.half_width),
            one.rank,
            share(None if against is None else against.first_gap),
            times(None if against is None else against.time_ratio),
            *([_calibration(one)] if calibrated else []),
            str(one.seeds),
        )
    return table


def _calibration(one: Evidence) -> str:
    if one.against_plain is None or "ece" not in one.against_plain.scores:
        return MISSING
    score = one.against_plain.scores["ece"]
    return f"{percent(score.first)} ({percent(score.second)})"


def _averages(found: Recommendation) -> Table:
    table = Table(title=f"{len(found.boards)} boards", title_justify="left")
    table.add_column("method", overflow="fold")
    for header in ("average\nrank", "gain over plain\nmean, points", "gap closed\nmean", "time / plain\nmedian"):
        table.add_column(header, justify="right", no_wrap=True)
    for candidate in found.candidates:
        against = [one.against_plain for one in candidate.evidence if one.against_plain is not None]
        gains = [one.test.difference for one in against if one.test is not None]
        gaps = [one.first_gap for one in against if one.first_gap is not None]
        table.add_row(
            candidate.name,
            f"{-candidate.standing:.1f}",
            f"{100 * fmean(gains):+.2f}" if gains else MISSING,
            share(fmean(gaps) if gaps else None),
            times(candidate.time),
        )
    return table


def _notes(candidate: Candidate) -> str:
    badges = sorted({one.badge for one in candidate.evidence} - {"claimed"})
    remarks = [*candidate.caveats, *([f"Badge: {', '.join(badges)}."] if badges else [])]
    text = f"{candidate.name}: {' '.join(remarks)}"
    places = [f"{one.rank} of {one.rows} on {one.board.label}" for one in candidate.elsewhere]
    return f"{text} Elsewhere: {_listed(places, 3, '; ')}." if places else text


def _listed(names: Sequence[str], most: int = NAMED, separator: str = ", ") -> str:
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _methods(count: int) -> str:
    return f"{count} method{'s' * (count != 1)}"
