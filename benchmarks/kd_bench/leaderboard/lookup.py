"""Finding entries by what somebody types: a method, an entry's path, a protocol, a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.names import unknown


@dataclass(frozen=True)
class Found:
    """The entries of one method.

    Attributes:
        name: the method.
        entries: at least one.
    """

    name: str
    entries: tuple[Entry, ...]


def narrow(
    entries: Sequence[Entry], *, protocol: str | None = None, pair: str | None = None, student: str | None = None
) -> list[Entry]:
    """Only the entries of a protocol, a pair, a student; ``None`` for all.

    Args:
        entries: those of a leaderboard.
        protocol: its id.
        pair: ``<student>__<teacher>``, or the name of its student.
        student: name of the student.

    Raises:
        UserError: if a name is unknown, or nothing has all of them.
    """
    left = list(entries)
    if protocol is not None:
        left = _matching("protocol", protocol, left, [[entry.run_set.protocol.id] for entry in left])
    if pair is not None:
        left = _matching("pair", pair, left, [[entry.run_set.pair, entry.run_set.student.name] for entry in left])
    if student is not None:
        left = _matching("student", student, left, [[entry.run_set.student.name] for entry in left])
    return left


def find_method(entries: Sequence[Entry], name: str, *, protocol: str | None = None, pair: str | None = None) -> Found:
    """The entries of a method.

    Args:
        entries: those of a leaderboard.
        name: of the method, in any case if only one fits, or the path of an entry,
            ``<protocol>/<method>/<student>__<teacher>``, with or without the folders and the file around it.
        protocol: id of the only protocol to look at.
        pair: the only pair, ``<student>__<teacher>``, or the name of its student.

    Raises:
        UserError: if there is none, naming the nearest.
    """
    left = narrow(entries, protocol=protocol, pair=pair)
    if "/" in name:
        found = [entry for entry in left if _is_path(name, entry.path)]
        if not found:
            raise unknown("entry", name, [entry.path for entry in left])
        return Found(found[0].run_set.method.name, tuple(found))
    names = sorted({entry.run_set.method.name for entry in left})
    if name not in names:
        alike = [known for known in names if known.lower() == name.lower()]
        if len(alike) != 1:
            raise unknown("method", name, names)
        name = alike[0]
    return Found(name, tuple(entry for entry in left if entry.run_set.method.name == name))


def _matching(kind: str, wanted: str, entries: list[Entry], names: list[list[str]]) -> list[Entry]:
    found = [entry for entry, own in zip(entries, names, strict=True) if wanted in own]
    if not found:
        if not entries:
            raise UserError(f"no entries are left to choose the {kind} {wanted!r} from")
        raise unknown(kind, wanted, sorted({name for own in names for name in own}))
    return found


def _is_path(given: str, path: str) -> bool:
    parts = [part for part in given.replace("\\", "/").split("/") if part not in ("", ".")]
    if parts and parts[-1] == "run_set.json":
        parts.pop()
    return parts[-3:] == path.split("/")
