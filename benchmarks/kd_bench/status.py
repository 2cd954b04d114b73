"""How far the benchmarks in an output directory are, from the files there: also while others work on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Literal

from kd_bench.errors import UserError
from kd_bench.layout import RUNS, STATES, item_file
from kd_bench.selection import Selection, read_selections
from kd_bench.state import ItemState, Status, judge, now, read_state

Key = tuple[str, str, int]
"""Pair, method and seed of an item."""


@dataclass(frozen=True)
class ItemStatus:
    """How far an item is.

    Attributes:
        pair: name of the pair in the protocol.
        method: name of the row.
        seed: the seed.
        status: ``waiting`` if nobody has begun it.
        state: what the last attempt wrote; ``None`` if there is nothing that could be read.
    """

    pair: str
    method: str
    seed: int
    status: Status | Literal["waiting"]
    state: ItemState | None


@dataclass(frozen=True)
class ProtocolStatus:
    """How far a protocol is.

    Attributes:
        protocol: its id.
        items: those that were asked for, and those that others have begun besides.
        at: the time that this is about.
    """

    protocol: str
    items: tuple[ItemStatus, ...]
    at: datetime

    def having(self, *statuses: str) -> list[ItemStatus]:
        """The items with one of the statuses."""
        return [item for item in self.items if item.status in statuses]

    @property
    def remaining(self) -> timedelta | None:
        """Estimate of the time left if as many are at work as now; ``None`` if nobody is, or nothing is known yet."""
        running = [item.state for item in self.having("running") if item.state is not None]
        usual = _usual_duration(self.items)
        if not running or usual is None:
            return None
        left = sum((_left(state, usual, self.at) for state in running), timedelta())
        return (left + usual * len(self.having("waiting", "interrupted"))) / len(running)


def read_status(output: Path | str, at: datetime | None = None) -> list[ProtocolStatus]:
    """How far the protocols are that are run in ``output``.

    Args:
        output: the benchmark's output directory.
        at: the time; by default now.

    Raises:
        UserError: if there is no such directory, or no benchmark was started in it.
    """
    root = Path(output)
    if not root.is_dir():
        raise UserError(f"no such directory: {root}. Give the output directory of `lightning-kd bench run`.")
    selections = {selection.protocol.id: selection for selection in read_selections(root)}
    states: dict[str, dict[Key, ItemState]] = {name: {} for name in selections}
    for state in _all_states(root):
        states.setdefault(state.protocol, {})[state.pair, state.method, state.seed] = state
    if not states:
        raise UserError(
            f"no benchmark was started in {root}: there is neither a plan nor the state of a run. Give the output "
            "directory of `lightning-kd bench run`."
        )
    at = at or now()
    return [
        ProtocolStatus(name, tuple(_statuses(root, selections.get(name), found, at)), at)
        for name, found in sorted(states.items())
    ]


def _all_states(root: Path) -> Iterator[ItemState]:
    for path in sorted((root / STATES).rglob("seed-*.json")):
        if (state := read_state(path)) is not None:
            yield state


def _statuses(
    root: Path, selection: Selection | None, states: dict[Key, ItemState], at: datetime
) -> Iterator[ItemStatus]:
    asked: list[Key] = [] if selection is None else list(selection.keys())
    for key in dict.fromkeys([*asked, *states]):
        state = states.get(key)
        result = _result(root, selection, key, state)
        yield ItemStatus(*key, _status(state, result, at), state)


def _result(root: Path, selection: Selection | None, key: Key, state: ItemState | None) -> Path:
    if state is not None:
        return root / RUNS / Path(*Path(state.log).parts[1:]).with_suffix(".json")
    assert selection is not None
    pair = selection.pairs[key[0]]
    return item_file(root, RUNS, selection.protocol.id, key[1], pair.student, pair.teacher, key[2], "json")


def _status(state: ItemState | None, result: Path, at: datetime) -> Status | Literal["waiting"]:
    found = _fingerprint(result)
    if state is None:
        return "waiting" if found is None else "done"
    status = judge(state, at)
    if status == "running":
        return status
    if found == state.fingerprint:  # whatever happened after it was written
        return "done"
    return "waiting" if status == "done" else status


def _fingerprint(result: Path) -> str | None:
    """That of a finished item, read without all that checking the result takes."""
    try:
        found = json.loads(result.read_bytes())
    except (OSError, ValueError):
        return None
    return found.get("fingerprint") if isinstance(found, dict) else None


def _usual_duration(items: Iterable[ItemStatus]) -> timedelta | None:
    """The median: the first items also wait for their teacher."""
    states = [item.state for item in items if item.state is not None]
    known = [state.updated - state.started for state in states if state.status == "done"]
    if not known:
        known = [
            (state.advanced - state.started) / state.epoch * state.epochs
            for state in states
            if state.status == "running" and state.epoch
        ]
    return timedelta(seconds=median(span.total_seconds() for span in known)) if known else None


def _left(state: ItemState, usual: timedelta, at: datetime) -> timedelta:
    share = state.epoch / state.epochs if state.epochs else 0.0
    since = at - (state.advanced if state.epoch else state.started)
    return max(usual * (1 - share) - since, timedelta())
