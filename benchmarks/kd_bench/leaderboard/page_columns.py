"""The columns of a table on the page."""

from __future__ import annotations

from dataclasses import dataclass

from kd_bench.leaderboard.columns import TaskColumns

HEADLINE = "headline"


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: identifies it.
        title: its heading.
        unit: unit or reading aid under the heading.
        kind: ``text`` or ``number``.
        first: direction of the first sort, the one that puts the best on top.
    """

    key: str
    title: str
    unit: str
    kind: str = "number"
    first: str = "ascending"


def page_columns(task: TaskColumns) -> list[Column]:
    """The columns of a board, in their order."""
    return [
        Column("method", "method", "", "text"),
        Column("family", "family", "", "text"),
        Column(HEADLINE, task.headline, f"{task.unit}, ± 95 %", first="descending"),
        Column("gap", "gap closed", "%", first="descending"),
        *(Column(column.key, column.title, column.unit, first=column.first) for column in task.others),
        Column("time", "time", "\N{MULTIPLICATION SIGN} plain"),
        Column("memory", "memory", "MiB"),
        Column("seeds", "seeds", "number", first="descending"),
        Column("verification", "verification", "", "text"),
    ]
