"""What is compared with each other: the entries of one protocol and one pair of models form a board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from kd_bench.entries import Entry
from kd_bench.results import RunSet

EntryOrRunSet = TypeVar("EntryOrRunSet", Entry, RunSet)


class BoardKey(NamedTuple):
    """Which board.

    Attributes:
        protocol: id of the protocol.
        student: name of the student.
        teacher: name of the teacher.
    """

    protocol: str
    student: str
    teacher: str

    @property
    def label(self) -> str:
        """In words, for example ``digits-v1: mini_resnet14 → mini_cnn4``."""
        return f"{self.protocol}: {self.teacher} → {self.student}"


def run_set_of(entry: Entry | RunSet) -> RunSet:
    """What was measured."""
    return entry.run_set if isinstance(entry, Entry) else entry


def board_key(entry: Entry | RunSet) -> BoardKey:
    """The board that an entry belongs to."""
    run_set = run_set_of(entry)
    return BoardKey(run_set.protocol.id, run_set.student.name, run_set.teacher.name)


def group_boards(entries: Iterable[EntryOrRunSet]) -> dict[BoardKey, list[EntryOrRunSet]]:
    """Entries by board: boards in the order of their keys, the entries of a board by the name of their method."""
    boards: dict[BoardKey, list[EntryOrRunSet]] = {}
    for entry in entries:
        boards.setdefault(board_key(entry), []).append(entry)
    return {key: sorted(boards[key], key=lambda one: run_set_of(one).method.name) for key in sorted(boards)}


def standing(entries: Sequence[Entry] | Sequence[RunSet]) -> list[RunSet]:
    """The run sets that count: those of entries that were not withdrawn."""
    return [run_set_of(entry) for entry in entries if not (isinstance(entry, Entry) and entry.withdrawn)]
