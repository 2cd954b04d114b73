"""Figures from papers: read, checked, and found by protocol, pair and row. They are shown beside results, never mixed.

A table is a CSV file, ``<data set>.csv``, one figure a line; ``leaderboards/README.md`` says what its columns mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic import field_validator as check

from kd_bench.errors import UserError
from kd_bench.protocol import list_protocols
from kd_bench.results import PLAIN, Name, RunSet

MAX_BYTES = 2_000_000
MAX_FIELD = 500

SAME, OTHER = "same protocol", "other protocol"

ROWS: Mapping[str, str] = {
    "AB": "AB",
    "AT": "AttentionTransfer",
    "CAT-KD": "CATKD",
    "CC": "CC",
    "CRD": "CRD",
    "CrossKD": "CrossKD",
    "CTKD": "CTKD",
    "CWD": "CWD",
    "DIST": "DIST",
    "DKD": "DKD",
    "FGD": "FGD",
    "FitNet": "FitNet",
    "FitNets": "FitNetNeck",
    "FRS": "FRS",
    "FSP": "FSP",
    "FT": "FactorTransfer",
    "KD": "KD",
    "KD+LSKD": "LSKD",
    "LD": "LD",
    "MLKD": "MLKD",
    "NST": "NST",
    "OFD": "OFD",
    "PKD": "PKD",
    "PKT": "PKT",
    "ReviewKD": "ReviewKD",
    "RKD": "RKD",
    "SimKD": "SimKD",
    "SP": "SP",
    "VID": "VID",
    "student": PLAIN,
    "student (CE)": PLAIN,
    "teacher (CE)": PLAIN,  # a network trained alone; it may be the student of another pair
}
"""What the tables call a method → the row that measures it. A method that is not here has no row of its own."""

Grade = Literal["verified", "verified-quoted", "secondary", "independent"]
Selection = Literal["last", "best", "best?", "unknown", "quoted"]

GRADES: tuple[Grade, ...] = ("verified", "verified-quoted", "secondary", "independent")
"""From the surest to the least sure. What was only remembered has no grade and no place in a table."""
SELECTIONS: tuple[Selection, ...] = ("last", "best", "best?", "unknown", "quoted")
"""From what is ranked here to what is least known."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters on a single line are allowed")
    return text


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


Text = Annotated[str, Field(max_length=MAX_FIELD), AfterValidator(_printable)]
Filled = Annotated[Text, Field(min_length=1)]
Percent = Annotated[Decimal, Field(ge=0, le=100, max_digits=7, decimal_places=4)]


class Figure(BaseModel):
    """One figure as somebody printed it; a line of a table.

    Attributes:
        dataset: data set, in words.
        teacher: model name as in :func:`kd_bench.models.list_models`; ``None`` for a network trained alone.
        student: model name of the network whose figure it is, but for the method ``teacher``.
        method: what the source calls the method.
        metric: top-1 or top-5 accuracy, or COCO's AP.
        value: in percent, with the digits that were printed.
        std: standard deviation over the source's own runs, in points.
        selection: which epoch it is.
        source: where it is printed.
        grade: how directly it was checked.
        note: what else there is to know.
        protocol: whether it was made by the recipe that the protocols of this data set follow.
        deviation: how its recipe differs.
        teacher_alias: what the source calls the teacher, where that differs.
        student_alias: what the source calls the student, where that differs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    dataset: Filled
    teacher: Annotated[Name | None, BeforeValidator(_blank_is_none)]
    student: Name
    method: Filled
    metric: Literal["top1", "top5", "ap"]
    value: Annotated[Percent, Field(gt=0)]
    std: Annotated[Percent | None, BeforeValidator(_blank_is_none)]
    selection: Selection
    source: Filled
    grade: Grade
    note: Text
    protocol: Literal["same protocol", "other protocol"]
    deviation: Text
    teacher_alias: Text
    student_alias: Text

    @check("deviation")
    @classmethod
    def _other_protocols_say_why(cls, deviation: str, info: ValidationInfo) -> str:
        if not deviation and info.data.get("protocol") == OTHER:
            raise ValueError(f"say how the recipe differs, or give {SAME!r} as protocol")
        return deviation

    @property
    def key(self) -> tuple[str | None, ...]:
        """What no two lines of a table have in common."""
        return self.teacher, self.student, self.method, self.metric, self.source

    def concerns(self, student: str, teacher: str) -> bool:
        """Whether it belongs to a pair, or to one of its two networks alone."""
        if self.teacher is None:
            return self.student in (student, teacher)
        return (self.student, self.teacher) == (student, teacher)


HEADLINES = ("top1", "ap")
"""The metrics that rows are ranked by."""

COLUMNS = tuple(Figure.model_fields)


@dataclass(frozen=True)
class Reported:
    """Tables of reported figures.

    Attributes:
        tables: name of the table, such as ``cifar100`` → its figures, in the order of the file.
    """

    tables: Mapping[str, tuple[Figure, ...]] = field(default_factory=dict)

    def of_pair(self, protocol_id: str, student: str, teacher: str) -> list[Figure]:
        """The figures that belong beside the results of a pair, of other protocols too."""
        return [figure for figure in self._of(protocol_id) if figure.concerns(student, teacher)]

    def of_row(self, protocol_id: str, student: str, teacher: str, row: str) -> Figure | None:
        """The figure to name beside a measured row: same method, pair and protocol; the surest if there are several.

        Args:
            protocol_id: the protocol of the row.
            student: model name.
            teacher: model name.
            row: name of the row.
        """
        candidates = [
            figure
            for figure in self._of(protocol_id)
            if (figure.protocol, ROWS.get(figure.method)) == (SAME, row)
            and figure.metric in HEADLINES
            and figure.student == student
            and figure.teacher in (None, teacher)
        ]
        return min(candidates, key=surest_first, default=None)

    def beside(self, board: Sequence[RunSet]) -> dict[str, Figure]:
        """Row name → its figure, for the rows of a board that have one."""
        found = {}
        for run_set in board:
            name = run_set.method.name
            figure = self.of_row(run_set.protocol.id, run_set.student.name, run_set.teacher.name, name)
            if figure is not None:
                found[name] = figure
        return found

    def _of(self, protocol_id: str) -> tuple[Figure, ...]:
        return self.tables.get(reported_for(protocol_id) or "", ())


def surest_first(figure: Figure) -> tuple[int, int]:
    """Sort key: by grade, then by selection."""
    return GRADES.index(figure.grade), SELECTIONS.index(figure.selection)


def reported_for(protocol_id: str) -> str | None:
    """Name of the table that belongs to a protocol; ``None`` if it names none or is not installed here.

    >>> reported_for("cifar100-v1"), reported_for("digits-v1")
    ('cifar100', None)
    """
    return next((protocol.reported for protocol in list_protocols() if protocol.id == protocol_id), None)


def shipped_reported() -> Reported:
    """The tables that come with the package, or those of the checkout that it is installed from."""
    here = Path(__file__).resolve().parent
    for folder in (here.parents[1] / "leaderboards" / "reported", here / "reported"):
        if folder.is_dir():
            return load_reported(folder)
    return Reported()


def load_reported(directory: Path | str) -> Reported:
    """Read every ``*.csv`` of a folder.

    Raises:
        UserError: if there is no such folder, no table in it, or a table is not valid.
    """
    root = Path(directory)
    if not root.is_dir():
        raise UserError(f"no such directory: {root}. Give a folder of reported figures, such as leaderboards/reported.")
    paths = sorted(root.glob("*.csv"))
    if not paths:
        raise UserError(f"no reported figures in {root}: expected <data set>.csv, such as cifar100.csv.")
    return Reported({path.stem: read_figures(path) for path in paths})


def read_figures(path: Path) -> tuple[Figure, ...]:
    """Read one table.

    Raises:
        UserError: if the file cannot be read, is too large, or a line is not a valid figure; the message names the
            line and the column.
    """
    figures: list[Figure] = []
    lines: dict[tuple[str | None, ...], int] = {}
    for line, cells in _lines(path):
        figure = _figure(path, line, cells)
        known = lines.setdefault(figure.key, line)
        if known != line:
            raise UserError(
                f"{path}, line {line}: the same figure as in line {known} ({figure.method}, {figure.metric}, "
                f"{figure.teacher or 'no teacher'} → {figure.student}, from {figure.source}). Keep one of them."
            )
        figures.append(figure)
        if figure.dataset != figures[0].dataset:
            raise UserError(
                f"{path}, line {line}, column 'dataset': expected {figures[0].dataset!r} as above, got "
                f"{figure.dataset!r}. Give every data set a file of its own."
            )
    return tuple(figures)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every line below the heading."""
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        heading = next(reader, [])
        if sorted(heading) != sorted(COLUMNS):
            missing, extra = set(COLUMNS) - set(heading), sorted(set(heading) - set(COLUMNS))
            problem = f"no column {min(missing, key=COLUMNS.index)!r}" if missing else f"a column too many, {extra}"
            raise UserError(f"{path}, line 1: {problem[: 2 * MAX_FIELD]}; expected {','.join(COLUMNS)}.")
        for cells in reader:
            if len(cells) != len(heading):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells, expected {len(heading)}, one a column. "
                    "Put cells with commas in quotes."
                )
            yield reader.line_num, dict(zip(heading, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a CSV file: {error}.") from error


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path} is too large: more than the {MAX_BYTES:,} bytes that are accepted.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}. Save it as UTF-8.") from error


def _figure(path: Path, line: int, cells: dict[str, str]) -> Figure:
    try:
        return Figure.model_validate(cells)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        column = str(problem["loc"][0])
        shown = cells[column] if len(cells[column]) <= 60 else f"{cells[column][:60]}…"
        raise UserError(
            f"{path}, line {line}, column {column!r}: {problem['msg'].removeprefix('Value error, ')}, got {shown!r}."
        ) from error
