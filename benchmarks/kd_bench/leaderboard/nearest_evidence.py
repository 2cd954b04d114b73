"""Which results come nearest to a student and a protocol that somebody has in mind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.names import nearest, unknown
from kd_bench.protocol import list_protocols
from kd_bench.results import PLAIN

Level = Literal["same student and protocol", "same student", "same protocol", "all boards"]


@dataclass(frozen=True)
class Nearest:
    """The results to go by.

    Attributes:
        level: how near they are.
        sentence: what they are, and what was not found.
        entries: the results, at least one method beside the plain student among them.
    """

    level: Level
    sentence: str
    entries: tuple[Entry, ...]


def nearest_evidence(entries: Sequence[Entry], *, student: str | None, protocol: str | None) -> Nearest:
    """Results of the same student under the same protocol, else of the same student, else of the protocol, else all.

    Args:
        entries: measured ones that count.
        student: name of a student, which need not have been measured.
        protocol: id of a protocol, which must at least come with the package.

    Raises:
        UserError: if there are no results at all, or the protocol is unknown.
    """
    known = sorted({entry.run_set.protocol.id for entry in entries})
    shipped = [one.id for one in list_protocols()]
    if protocol is not None and protocol not in known and protocol not in shipped:
        raise unknown("protocol", protocol, sorted({*known, *shipped}))
    steps: list[tuple[Level, bool, bool]] = [
        ("same student and protocol", True, True),
        ("same student", True, False),
        ("same protocol", False, True),
        ("all boards", False, False),
    ]
    for level, same_student, same_protocol in steps:
        if (same_student and student is None) or (same_protocol and protocol is None):
            continue
        found = [
            entry
            for entry in entries
            if (not same_student or entry.run_set.student.name == student)
            and (not same_protocol or entry.run_set.protocol.id == protocol)
        ]
        if any(entry.run_set.method.name != PLAIN for entry in found):
            return Nearest(level, _sentence(level, entries, student, protocol), tuple(found))
    raise UserError("there are no results of any method to choose from; run `lightning-kd bench run` first")


def _sentence(level: Level, entries: Sequence[Entry], student: str | None, protocol: str | None) -> str:
    if level == "same student and protocol":
        return f"results of the student {student} under {protocol}"
    if level == "same student":
        missing = "" if protocol is None else f"; it was not measured under {protocol}"
        return f"results of the student {student} under any protocol{missing}"
    students = sorted({entry.run_set.student.name for entry in entries})
    like = [] if student is None or student in students else nearest(student, students, 3)
    guess = f" (did you mean {' or '.join(like)}?)" if like else ""
    if level == "same protocol":
        missing = "" if student is None else f"; none of the student {student}{guess}"
        return f"results of all students under {protocol}{missing}"
    wanted = [f"the student {student}{guess}" if student is not None else "", f"{protocol}" if protocol else ""]
    asked = " or of ".join(one for one in wanted if one)
    return f"results of all boards{f'; none of {asked}' if asked else ''}"
