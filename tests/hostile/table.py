"""The table of hostile submissions, and how one is entered into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.edits import edit, replace
from hostile.valid import committed_entry

MARKER = "executed"
"""File below the test's folder that is there if something was executed."""


@dataclass(frozen=True)
class Hostile:
    """A submission that must be refused.

    Attributes:
        name: what is wrong with it.
        rule: the rule that must say so.
        mention: what its message must hold.
        make: changes a valid submission, given the folder of its entry.
        start: which valid submission it is made from.
    """

    name: str
    rule: str
    mention: str
    make: Callable[[Path], None]
    start: Callable[[Path], Path]


CASES: list[Hostile] = []


def case(
    name: str, rule: str, mention: str = "", start: Callable[[Path], Path] = committed_entry
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Enter a function into :data:`CASES`."""

    def add(make: Callable[[Path], None]) -> Callable[[Path], None]:
        CASES.append(Hostile(name, rule, mention, make, start))
        return make

    return add


def edited(
    name: str,
    rule: str,
    mention: str,
    change: Callable[[dict[str, Any]], object],
    start: Callable[[Path], Path] = committed_entry,
) -> None:
    """Enter a change of the run set into :data:`CASES`."""
    case(name, rule, mention, start)(lambda entry: edit(entry, change))


def rewritten(name: str, rule: str, mention: str, before: str, after: str) -> None:
    """Enter a change of the run set's text into :data:`CASES`."""
    case(name, rule, mention)(lambda entry: replace(entry, before, after))
