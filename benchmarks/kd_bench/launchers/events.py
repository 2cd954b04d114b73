"""What a launcher tells while it works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kd_bench.items import Item


@dataclass(frozen=True)
class Failure:
    """An item that could not be done.

    Attributes:
        item: the item.
        message: the error in one line.
        log: file with the output of the training and the traceback.
        retryable: whether another attempt may end otherwise.
        fatal: whether the other items would fail as well, because the disk is full.
        attempts: how often the item was tried.
    """

    item: Item
    message: str
    log: Path
    retryable: bool = True
    fatal: bool = False
    attempts: int = 1


class Listener(Protocol):
    """Told about every item; a progress display, for example."""

    def started(self, item: Item) -> None:
        """A worker took the item."""
        ...

    def advanced(self, item: Item, epoch: int, epochs: int) -> None:
        """``epoch`` of ``epochs`` are done."""
        ...

    def finished(self, item: Item, score: float, seconds: float) -> None:
        """The item's result is on disk."""
        ...

    def failed(self, failure: Failure) -> None:
        """The item could not be done; the others go on."""
        ...

    def postponed(self, failure: Failure) -> None:
        """The item could not be done, and will be tried again after the others."""
        ...

    def note(self, text: str) -> None:
        """Something that whoever waits should know."""
        ...
