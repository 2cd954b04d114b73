"""Which method to try first: what the measured results say, and how near they come to what was asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.leaderboard.boards import BoardKey, group_boards
from kd_bench.leaderboard.evidence import Candidate, Describer
from kd_bench.leaderboard.family import family_of
from kd_bench.leaderboard.leading_group import LeadingGroup, leading_group
from kd_bench.leaderboard.nearest_evidence import Nearest, nearest_evidence
from kd_bench.leaderboard.summary import relative_time
from kd_bench.names import unknown
from kd_bench.results import PLAIN

SAME_TIME = 1.05
"""Times that differ by less than this factor count as the same: they are measured no better."""


@dataclass(frozen=True)
class Recommendation:
    """Methods to try, the first one first.

    Attributes:
        candidates: methods of the leading group that are separated above the plain student, if there are such; of them
            those that no other stands above at about the same time or less, cheapest first.
        tied: the other methods of the leading group, best first: nothing is separated above them, either.
        nearest: which results it rests on, and why.
        boards: the boards that decided.
        considered: number of methods that were compared.
        over_budget: methods that take too long, with their relative time, cheapest first.
        unknown_time: methods left out because their time cannot be compared.
        cautions: what holds for all candidates, in sentences.
    """

    candidates: tuple[Candidate, ...]
    tied: tuple[str, ...]
    nearest: Nearest
    boards: tuple[BoardKey, ...]
    considered: int
    over_budget: dict[str, float]
    unknown_time: tuple[str, ...]
    cautions: tuple[str, ...]


def recommend(
    entries: Sequence[Entry],
    *,
    student: str | None = None,
    protocol: str | None = None,
    family: str | None = None,
    budget: float | None = None,
) -> Recommendation:
    """Choose from measured results only.

    Methods are compared among those that fit; see :func:`~kd_bench.leaderboard.leading_group.leading_group`.

    Args:
        entries: those of a leaderboard; withdrawn ones are not considered.
        student: name of the student that is to be trained; one that nobody has measured is no error.
        protocol: protocol that resembles the task at hand.
        family: only methods of this family, such as ``features``.
        budget: largest training time, relative to the plain student's.

    Raises:
        UserError: if there is no result, a name is unknown, or no method fits.
    """
    measured = [entry for entry in entries if not entry.withdrawn]
    nearest = nearest_evidence(measured, student=student, protocol=protocol)
    pool = _of_family(nearest.entries, family)
    times = _times(nearest.entries)
    unknown_time = tuple(sorted({_name(entry) for entry in pool} - set(times))) if budget is not None else ()
    over = {name: time for name, time in times.items() if budget is not None and time > budget and name != PLAIN}
    over = {name: over[name] for name in sorted({_name(entry) for entry in pool} & set(over), key=lambda n: over[n])}
    left = [entry for entry in pool if _name(entry) not in {*over, *unknown_time}]
    if not any(_name(entry) != PLAIN for entry in left):
        raise UserError(_nothing(nearest, family, budget, over, unknown_time))
    group = leading_group(left)
    names, cautions = _worth_trying(group)
    chosen = _unbeaten(names, group.standings, times)
    describe = Describer(measured, group.boards)
    return Recommendation(
        candidates=tuple(describe.candidate(name, times.get(name), group.standings[name]) for name in chosen),
        tied=tuple(name for name in group.names if name not in (*chosen, PLAIN)),
        nearest=nearest,
        boards=group.boards,
        considered=len(group.standings.keys() - {PLAIN}),
        over_budget=over,
        unknown_time=unknown_time,
        cautions=(*group.cautions, *cautions),
    )


def _worth_trying(group: LeadingGroup) -> tuple[list[str], list[str]]:
    """Of the leading methods those that are shown to gain anything, if there are any; and what to be cautious of."""
    proven = [name for name in group.names if name in group.proven]
    if proven:
        return proven, []
    others = [name for name in group.names if name != PLAIN]
    plain = group.standings.get(PLAIN)
    if plain is None:
        return others, ["There is no plain student to compare with: whether distilling gains anything is unknown."]
    above = [name for name in others if group.standings[name] > plain]
    if above:
        return above, ["No leading method is separated above the plain student: distilling may gain nothing here."]
    best = max((name for name in group.standings if name != PLAIN), key=lambda name: (group.standings[name], name))
    return [best], ["No method stands above the plain student here; this is the one that comes nearest."]


def _unbeaten(names: Sequence[str], standings: dict[str, float], times: dict[str, float]) -> list[str]:
    """Those that none stands above at about the same time or less, cheapest first; the best one if no time is known."""
    timed = [name for name in names if name in times]
    if not timed:
        return list(names[:1])
    kept = [
        name
        for name in timed
        if not any(standings[other] > standings[name] and times[other] <= SAME_TIME * times[name] for other in timed)
    ]
    return sorted(kept, key=lambda name: (times[name], -standings[name], name))


def _times(entries: Iterable[Entry]) -> dict[str, float]:
    """Relative training time of each method: the median over the boards on which it can be compared."""
    found: dict[str, list[float]] = {}
    for board in group_boards(entries).values():
        plain = next((entry for entry in board if _name(entry) == PLAIN), None)
        if plain is None:
            continue
        for entry in board:
            time = relative_time(entry.run_set, plain.run_set)
            if time is not None:
                found.setdefault(_name(entry), []).append(time)
    return {name: median(times) for name, times in found.items()}


def _of_family(entries: Sequence[Entry], family: str | None) -> list[Entry]:
    """Those of a family, and the plain student to compare them with."""
    if family is None:
        return list(entries)
    families = {_name(entry): family_of(entry.run_set) for entry in entries if _name(entry) != PLAIN}
    if family not in families.values():
        raise unknown("family", family, sorted(set(families.values())))
    return [entry for entry in entries if _name(entry) == PLAIN or families[_name(entry)] == family]


def _nothing(
    nearest: Nearest, family: str | None, budget: float | None, over: dict[str, float], unknown_time: Sequence[str]
) -> str:
    kind = "method" if family is None else f"method of the family {family!r}"
    message = f"no {kind} fits ({nearest.sentence})"
    if budget is not None:
        message += f": none is known to train within {budget:g} times the plain student's time"
    if over:
        name, time = next(iter(over.items()))
        message += f"; the cheapest of {len(over)} is {name} with {time:.2f}. Raise the budget to at least that"
    if unknown_time:
        message += f". The time of {len(unknown_time)} methods cannot be compared: they ran on another machine"
    return f"{message}."


def _name(entry: Entry) -> str:
    return entry.run_set.method.name
