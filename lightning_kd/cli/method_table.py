"""What `lightning-kd methods` shows: one row a method, read from the classes themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from lightning_kd.methods import family
from lightning_kd.methods.base import DistillationMethod
from lightning_kd.testing.rig import Rig, inputs_for

LOGITS_ONLY = "logits only"
HEADS = "heads"
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class MethodRow:
    """What the table says about one method.

    Attributes:
        name: class name.
        family: sub-package of :mod:`lightning_kd.methods` that holds it.
        taps: what it compares by default: ``"logits only"``, the ``"heads"`` of detectors, or layers: ``"auto"``,
            ``"penultimate"`` or the names.
        needs_target: whether it needs class labels.
        needs_teacher: whether it needs a teacher.
        needs_index: whether it needs the samples' indices.
        has_setup_pass: whether it looks at the training set once before training.
        trains_teacher: whether the teacher trains along.
        citation: where it was published.
    """

    name: str
    family: str
    taps: str
    needs_target: bool
    needs_teacher: bool
    needs_index: bool
    has_setup_pass: bool
    trains_teacher: bool
    citation: str

    @property
    def needs(self) -> str:
        """What the method asks for beside logits, in words."""
        asked = {
            "target": self.needs_target,
            "features": self.taps not in (LOGITS_ONLY, HEADS),
            "sample index": self.needs_index,
            "setup pass": self.has_setup_pass,
            "trains teacher": self.trains_teacher,
            "no teacher": not self.needs_teacher,
        }
        return ", ".join(need for need, wanted in asked.items() if wanted) or NOTHING


def method_rows(methods: Mapping[str, type[DistillationMethod]]) -> list[MethodRow]:
    """Describe the methods, sorted by family, then name.

    Args:
        methods: name → class, as :func:`lightning_kd.methods.discover` returns them.
    """
    return sorted((_row(name, cls) for name, cls in methods.items()), key=lambda row: (row.family, row.name.lower()))


def rich_table(rows: list[MethodRow]) -> Table:
    """The table for a terminal."""
    table = Table(title=f"{len(rows)} methods", title_justify="left")
    table.add_column("method", no_wrap=True, style="bold")
    table.add_column("family")
    table.add_column("needs")
    table.add_column("citation", overflow="fold")
    for row in rows:
        table.add_row(row.name, row.family, row.needs, row.citation)
    return table


def has_extra_parameters(cls: type[DistillationMethod]) -> bool:
    """Whether the method trains parameters beside the student's; found out by building it on tiny networks."""
    return any(parameter.requires_grad for parameter in Rig(cls, inputs_for(cls)).method.parameters())


def markdown_table(methods: Mapping[str, type[DistillationMethod]]) -> str:
    """The table for the documentation, in GitHub's Markdown.

    Args:
        methods: name → class, as :func:`lightning_kd.methods.discover` returns them.
    """
    header = [
        "method",
        "family",
        "taps",
        "needs target",
        "extra parameters",
        "setup pass",
        "trains teacher",
        "citation",
    ]
    lines = [header, ["---"] * len(header)]
    for row in method_rows(methods):
        extra = has_extra_parameters(methods[row.name])
        flags = (row.needs_target, extra, row.has_setup_pass, row.trains_teacher)
        answers = ("yes" if flag else "no" for flag in flags)
        lines.append([f"`{row.name}`", row.family, row.taps, *answers, row.citation])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _row(name: str, cls: type[DistillationMethod]) -> MethodRow:
    method = cls()
    return MethodRow(
        name=name,
        family=family(cls),
        taps=_taps(method),
        needs_target=cls.needs_target,
        needs_teacher=cls.needs_teacher,
        needs_index=cls.needs_index,
        has_setup_pass=cls.has_setup_pass,
        trains_teacher=cls.trains_teacher,
        citation=str(cls.citation) if cls.citation else NOTHING,
    )


def _taps(method: DistillationMethod) -> str:
    if method.layers is None:
        return HEADS if family(type(method)) == "detection" else LOGITS_ONLY
    return method.layers if isinstance(method.layers, str) else ", ".join(method.layers)
