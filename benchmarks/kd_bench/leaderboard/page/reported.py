"""Reported figures as the page shows them: in tables of their own, and by name beside a measured row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kd_bench.protocol import load_protocol
from kd_bench.reported import ROWS, SAME, Figure, Grade, Reported, reported_for, surest_first
from kd_bench.results import PLAIN, RunSet, pair_slug

DOUBTS: Mapping[Grade, str] = {
    "secondary": "second-hand",
    "independent": "not by its authors",
}
"""What is said of the grades below ``verified-quoted``."""

METRICS = {"top1": "top-1", "top5": "top-5", "ap": "AP"}


@dataclass(frozen=True)
class Line:
    """One figure; every value is text, to be escaped where it is shown.

    Attributes:
        method: what the source calls the method.
        row: the measured row of the same method under another name, or an empty string.
        metric: what was measured.
        value: as printed, in percent.
        std: as printed, or an empty string.
        selection: which epoch it is.
        grade: how directly it was checked.
        doubt: what makes the grade a low one, or an empty string.
        source: where it is printed.
        note: how the recipe differs, and what else there is to know.
    """

    method: str
    row: str
    metric: str
    value: str
    std: str
    selection: str
    grade: str
    doubt: str
    source: str
    note: str


@dataclass(frozen=True)
class ReportedTable:
    """The figures of one pair.

    Attributes:
        same: those of the protocol, by name of the method, which ranks nothing.
        other: those of other protocols.
    """

    same: list[Line]
    other: list[Line]


@dataclass(frozen=True)
class Quote:
    """A figure named beside a measured row.

    Attributes:
        value: as printed, in percent.
        selection: which epoch it is.
        origin: where it is printed and how sure it is, in words.
    """

    value: str
    selection: str
    origin: str


@dataclass(frozen=True)
class UnmeasuredPair:
    """A pair that has reported figures only.

    Attributes:
        id: anchor.
        dataset: data set, in words.
        student: student model.
        teacher: teacher model.
        table: the figures.
    """

    id: str
    dataset: str
    student: str
    teacher: str
    table: ReportedTable


def reported_table(figures: Iterable[Figure], student: str, teacher: str) -> ReportedTable | None:
    """The table of a pair, or ``None`` without figures."""
    ordered = sorted(figures, key=lambda figure: _order(figure, teacher))
    if not ordered:
        return None
    same = [_line(figure, teacher) for figure in ordered if figure.protocol == SAME]
    other = [_line(figure, teacher) for figure in ordered if figure.protocol != SAME]
    return ReportedTable(same, other)


def quotes(board: Sequence[RunSet], reported: Reported) -> dict[str, Quote]:
    """Row name → the figure of the same method, pair and protocol; only rows that have one."""
    return {name: _quote(figure) for name, figure in reported.beside(board).items()}


def unmeasured_pairs(run_sets: Sequence[RunSet], reported: Reported) -> list[UnmeasuredPair]:
    """Pairs of the protocols of the results that have figures of their own but no measured row."""
    found: dict[str, UnmeasuredPair] = {}
    measured = {(reported_for(one.protocol.id), one.student.name, one.teacher.name) for one in run_sets}
    for protocol_id in sorted({run_set.protocol.id for run_set in run_sets}):
        name = reported_for(protocol_id)
        if name is None:
            continue
        for pair in load_protocol(protocol_id).pairs.values():
            figures = reported.of_pair(protocol_id, pair.student, pair.teacher)
            own = [figure for figure in figures if figure.teacher is not None]
            table = reported_table(figures, pair.student, pair.teacher)
            if own and table and (name, pair.student, pair.teacher) not in measured:
                anchor = f"reported/{name}/{pair_slug(pair.student, pair.teacher)}"
                found[anchor] = UnmeasuredPair(anchor, own[0].dataset, pair.student, pair.teacher, table)
    return list(found.values())


def _quote(figure: Figure) -> Quote:
    origin = "; ".join(part for part in (figure.source, figure.grade, _note(figure)) if part)
    return Quote(f"{figure.value:f}", figure.selection, origin)


def _order(figure: Figure, teacher: str) -> tuple[object, ...]:
    method = _method(figure, teacher)
    alone = 0 if method.startswith("teacher") else 1 if ROWS.get(figure.method) == PLAIN else 2
    return alone, method.casefold(), figure.metric, surest_first(figure), figure.source


def _line(figure: Figure, teacher: str) -> Line:
    method = _method(figure, teacher)
    row = ROWS.get(figure.method, "")
    return Line(
        method=method,
        row=row if row not in (figure.method, PLAIN) else "",
        metric=METRICS[figure.metric],
        value=f"{figure.value:f}",
        std="" if figure.std is None else f"{figure.std:f}",
        selection=figure.selection,
        grade=figure.grade,
        doubt=DOUBTS.get(figure.grade, ""),
        source=figure.source,
        note=_note(figure),
    )


def _method(figure: Figure, teacher: str) -> str:
    """The name in the table; a network trained alone is called by its part in the pair."""
    if figure.teacher is None:
        return "teacher (CE)" if figure.student == teacher else "student (CE)"
    return figure.method


def _note(figure: Figure) -> str:
    return "; ".join(part for part in (figure.deviation, figure.note) if part)
