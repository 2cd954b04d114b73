"""Try failed items again after the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from kd_bench.items import Item
from kd_bench.launchers.base import Launcher
from kd_bench.launchers.events import Failure, Listener


def run_with_retries(launcher: Launcher, items: Sequence[Item], retries: int, listener: Listener) -> list[Failure]:
    """Do all items, and those that fail again, as often as allowed.

    What would fail in the same way is not tried again: a mistake in the protocol, a training that diverges.

    Args:
        launcher: gets items done.
        items: what to do.
        retries: how often an item is tried again.
        listener: told about every item.

    Returns:
        The items that could not be done.
    """
    final: list[Failure] = []
    attempts: Counter[tuple[str, str, int]] = Counter()
    waiting = list(items)
    for left in reversed(range(retries + 1)):
        if not waiting:
            break
        attempts.update(item.key for item in waiting)
        sorter = _Sorter(listener, attempts, again=left > 0)
        launcher.run(waiting, sorter)
        final += sorter.final
        if any(failure.fatal for failure in sorter.final):
            break
        waiting = [failure.item for failure in sorter.postponed_failures]
    return final


class _Sorter:
    """Passes on what happens, and tells the failures that are final from those that are not."""

    def __init__(self, listener: Listener, attempts: Counter[tuple[str, str, int]], *, again: bool) -> None:
        self._listener, self._attempts, self._again = listener, attempts, again
        self.final: list[Failure] = []
        self.postponed_failures: list[Failure] = []

    def started(self, item: Item) -> None:
        self._listener.started(item)

    def advanced(self, item: Item, epoch: int, epochs: int) -> None:
        self._listener.advanced(item, epoch, epochs)

    def finished(self, item: Item, score: float, seconds: float) -> None:
        self._listener.finished(item, score, seconds)

    def failed(self, failure: Failure) -> None:
        failure = replace(failure, attempts=self._attempts[failure.item.key])
        if self._again and failure.retryable and not failure.fatal:
            self.postponed_failures.append(failure)
            self._listener.postponed(failure)
        else:
            self.final.append(failure)
            self._listener.failed(failure)

    def postponed(self, failure: Failure) -> None:
        self._listener.postponed(failure)

    def note(self, text: str) -> None:
        self._listener.note(text)
