"""Progress of items that are done elsewhere, from their states."""

from __future__ import annotations

import time
from collections.abc import Iterable

from kd_bench.items import Item
from kd_bench.launchers.attempt import Done, Outcome
from kd_bench.launchers.events import Failure, Listener
from kd_bench.state import ItemState, mark_ended, read_state

Key = tuple[str, str, int]

ITEMS_A_SECOND = 200
"""So many states are read in a second at most: the file system may be a network away, and all items are waiting."""


class Relay:
    """Tells a listener what the states of items say.

    Args:
        items: those that are about to be done; what their states say now is of earlier attempts.
        listener: who is told.
    """

    def __init__(self, items: Iterable[Item], listener: Listener) -> None:
        self._listener = listener
        self._before = {item.key: state.started for item in items if (state := read_state(item.state)) is not None}
        self._epochs: dict[Key, int] = {}
        self._next_poll = 0.0

    @property
    def started(self) -> set[Key]:
        """Items that somebody has begun."""
        return set(self._epochs)

    def poll(self, items: Iterable[Item]) -> None:
        """Read the states of items, unless that was just done."""
        begin = time.monotonic()
        if begin < self._next_poll:
            return
        items = list(items)
        for item in items:
            if (state := read_state(item.state)) is not None:
                self.heed(item, state)
        self._next_poll = begin + max(1.0, len(items) / ITEMS_A_SECOND)

    def heed(self, item: Item, state: ItemState) -> None:
        """Pass on what is new in a state."""
        if state.started == self._before.get(item.key):
            return
        self._start(item)
        if state.epochs and state.epoch != self._epochs[item.key]:
            self._epochs[item.key] = state.epoch
            self._listener.advanced(item, state.epoch, state.epochs)

    def conclude(self, item: Item, outcome: Outcome) -> Failure | None:
        """Pass on how an item ended; the failure, if it is one."""
        self._start(item)
        del self._epochs[item.key]
        if isinstance(outcome, Done):
            self._listener.finished(item, outcome.score, outcome.seconds)
            return None
        # whoever did the item may not have been able to say so
        mark_ended(item.state, "failed", outcome.message)
        failure = Failure(item, outcome.message, item.log, outcome.retryable, outcome.fatal)
        self._listener.failed(failure)
        return failure

    def note(self, text: str) -> None:
        """Pass on a remark."""
        self._listener.note(text)

    def _start(self, item: Item) -> None:
        if item.key not in self._epochs:
            self._epochs[item.key] = 0
            self._listener.started(item)
