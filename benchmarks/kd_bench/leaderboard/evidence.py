"""What the boards say of a method: its places, its gains, and what to know before believing them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kd_bench.entries import Entry
from kd_bench.leaderboard.boards import BoardKey, group_boards
from kd_bench.leaderboard.comparison import BoardComparison, compare_entries
from kd_bench.leaderboard.ranking import rank_board
from kd_bench.results import PLAIN, Verification
from kd_bench.statistics import FEW_SEEDS

_CALIBRATION = "ece"


@dataclass(frozen=True)
class Evidence:
    """What one board says of a method.

    Attributes:
        board: which board.
        rank: place among all rows of the board, such as ``1–4``.
        rows: number of rows.
        seeds: number of seeds.
        badge: how far somebody checked the numbers.
        against_plain: comparison with the plain student; ``None`` without one.
    """

    board: BoardKey
    rank: str
    rows: int
    seeds: int
    badge: Verification
    against_plain: BoardComparison | None


@dataclass(frozen=True)
class Candidate:
    """A method to try.

    Attributes:
        name: the method.
        time: training time relative to the plain student's, the median over the boards; ``None`` if unknown.
        standing: mean headline on the only board, or minus the average rank over several: higher is better.
        evidence: the boards that it was chosen by.
        elsewhere: the other boards that it is on.
        caveats: what to know before believing it, in sentences.
    """

    name: str
    time: float | None
    standing: float
    evidence: tuple[Evidence, ...]
    elsewhere: tuple[Evidence, ...]
    caveats: tuple[str, ...]


class Describer:
    """Collects the evidence for methods; ranks every board at most once.

    Args:
        entries: those that count.
        chosen: the boards that decide.
    """

    def __init__(self, entries: Sequence[Entry], boards: Sequence[BoardKey]) -> None:
        self._all, self._chosen = group_boards(entries), boards
        self._ranks: dict[BoardKey, dict[str, str]] = {}

    def candidate(self, name: str, time: float | None, standing: float) -> Candidate:
        """A method with all that is known of it.

        Args:
            name: the method.
            time: its training time, relative to the plain student's.
            standing: how high it stands on the boards that decide.
        """
        here = [self._evidence(name, key) for key in self._chosen]
        there = [self._evidence(name, key) for key in self._all if key not in self._chosen]
        evidence = tuple(one for one in here if one is not None)
        entries = [entry for key in self._chosen for entry in self._all[key] if _name(entry) == name]
        caveats = tuple(_caveats(entries, evidence, time))
        return Candidate(name, time, standing, evidence, tuple(one for one in there if one is not None), caveats)

    def _evidence(self, name: str, key: BoardKey) -> Evidence | None:
        by_name = {_name(entry): entry for entry in self._all[key]}
        if name not in by_name:
            return None
        if key not in self._ranks:
            self._ranks[key] = {one.name: one.rank for one in rank_board(self._all[key])}
        entry, plain = by_name[name], by_name.get(PLAIN)
        against = None if plain is None else compare_entries(entry, plain, plain.run_set)
        return Evidence(key, self._ranks[key][name], len(by_name), len(entry.run_set.runs), entry.badge, against)


def _caveats(entries: Sequence[Entry], evidence: Sequence[Evidence], time: float | None) -> Iterable[str]:
    fewest = min(one.seeds for one in evidence)
    if fewest < FEW_SEEDS:
        yield f"Only {fewest} seed{'s' * (fewest != 1)}."
    if any(one.badge == "claimed" for one in evidence):
        yield "Nobody has checked the numbers yet (badge: claimed)."
    against = [one.against_plain for one in evidence if one.against_plain is not None]
    if not any(one.test is not None and one.test.difference > 0 and one.test.separated for one in against):
        yield "Not separated from the plain student, seed by seed."
    calibration = [one.scores[_CALIBRATION].test for one in against if _CALIBRATION in one.scores]
    if any(test.separated and test.difference > 0 for test in calibration):
        yield "Its confidence is less calibrated than the plain student's."
    if time is None:
        yield "Its training time is unknown here: it ran on another machine than the plain student."
    if any(entry.challenged for entry in entries):
        yield "Somebody challenges the result."
    if any(entry.run_set.track == "tuned" for entry in entries):
        yield "Its hyper-parameters were tuned for the pair."
    if any(entry.run_set.extra_data for entry in entries):
        yield "It used data beyond the training split."


def _name(entry: Entry) -> str:
    return entry.run_set.method.name
