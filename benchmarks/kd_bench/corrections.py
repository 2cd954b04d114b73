"""Corrections of published entries: ``leaderboards/corrections/<id>.json``, one file an event, never changed later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kd_bench.errors import UserError
from kd_bench.results import Record, Sha256, Verification
from kd_bench.storage import read_model
from kd_bench.verification.record import Day

CORRECTIONS = "corrections"
"""Folder of the corrections, beside ``results``."""

Kind = Literal["challenge", "dismissal", "correction", "demotion", "withdrawal"]

EntryPath = Annotated[
    str,
    Field(max_length=400, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*){2}$"),
]
Id = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Link = Annotated[str, Field(max_length=500, pattern=r"^https://[^\s<>\"']+$")]


class Correction(Record):
    """An event in the history of an entry.

    Attributes:
        id: name of the file without its extension.
        date: day of the event, ``YYYY-MM-DD``.
        entry: ``<protocol>/<method>/<student>__<teacher>`` below ``results``.
        kind: ``challenge``: somebody doubts it, and the page says so until it is answered; ``dismissal``: the challenge
            ``answers`` did not hold; ``correction``: its files were changed; ``demotion``: it keeps its place with a
            lower badge; ``withdrawal``: it is no longer ranked.
        reason: what was wrong, in words.
        by: who says so.
        evidence: address of an issue, log or reproduction.
        answers: id of the challenge that this settles.
        badge: the highest badge that the entry may show from now on; only of a demotion.
        before_sha256: hash of the ``run_set.json`` before; of a correction, and of a withdrawal that removes it.
        after_sha256: hash of the ``run_set.json`` after; only of a correction.
    """

    schema_version: Literal[1] = 1
    id: Id
    date: Day
    entry: EntryPath
    kind: Kind
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    by: Annotated[str, Field(min_length=1, max_length=120)]
    evidence: Link | None = None
    answers: Id | None = None
    badge: Verification | None = None
    before_sha256: Sha256 | None = None
    after_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if (self.badge is not None) != (self.kind == "demotion"):
            raise ValueError("a demotion, and only it, names the highest badge that is left")
        if self.kind == "correction" and (self.before_sha256 is None or self.after_sha256 is None):
            raise ValueError("a correction names the hashes of run_set.json before and after")
        if self.after_sha256 is not None and self.kind != "correction":
            raise ValueError("only a correction has a hash after")
        if self.before_sha256 is not None and self.kind not in ("correction", "withdrawal"):
            raise ValueError("only a correction or a withdrawal has a hash before")
        if self.kind == "dismissal" and self.answers is None:
            raise ValueError("a dismissal names the challenge that it answers")
        if self.kind == "challenge" and self.answers is not None:
            raise ValueError("a challenge answers nothing")
        return self


def read_correction(path: Path) -> Correction:
    """Read one file.

    Raises:
        UserError: if it is corrupt, or its name is not its id.
    """
    correction = read_model(path, Correction)
    if path.stem != correction.id:
        raise UserError(f"{path} has the id {correction.id!r}; name the file {correction.id}.json")
    return correction


def load_corrections(directory: Path) -> list[Correction]:
    """All corrections in a folder, oldest first.

    Args:
        directory: ``leaderboards/corrections``; need not exist.

    Raises:
        UserError: if a file is corrupt.
    """
    found = [read_correction(path) for path in sorted(directory.glob("*.json"))]
    return sorted(found, key=lambda correction: (correction.date, correction.id))
