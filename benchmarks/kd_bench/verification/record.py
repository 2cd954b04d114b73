"""What a verification found: ``verification.json`` beside a run set, which only ever grows.

The badge of an entry is derived from it; see :func:`kd_bench.entries.load_entries`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kd_bench.results import Environment, Record, Seed, Sha256, Text, Verification
from kd_bench.storage import read_model, write_model
from kd_bench.verification.tolerance import (
    CHECKPOINT,
    PREDICTIONS,
    RETRAINED_MEAN_CAP,
    RETRAINED_SEED_CAP,
)

VERIFICATION_FILE = "verification.json"

LEVELS: tuple[Verification, ...] = ("claimed", "predictions checked", "checkpoint re-evaluated", "retrained")
"""The badges, lowest first."""

_ROUNDING = 1e-12
_WIDEST = {
    "predictions checked": PREDICTIONS,
    "checkpoint re-evaluated": CHECKPOINT,
    "retrained": RETRAINED_SEED_CAP,
}

Day = Annotated[str, Field(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]


class SeedFinding(Record):
    """What was found for one seed.

    Attributes:
        seed: the seed.
        claimed: the headline that the run set states.
        found: the headline that was measured.
    """

    seed: Seed
    claimed: Annotated[float, Field(ge=0.0, le=1.0)]
    found: Annotated[float, Field(ge=0.0, le=1.0)]


class VerificationRecord(Record):
    """One verification that succeeded.

    Attributes:
        level: what was done.
        date: day on which it was done, ``YYYY-MM-DD``, UTC.
        by: who did it.
        run_set_sha256: hash of the ``run_set.json`` that was verified; the record counts for no other.
        seeds: what was found, ascending by seed.
        tolerance: largest difference of the headline of a seed that was accepted, as a fraction; see
            :mod:`kd_bench.verification.tolerance`.
        mean_tolerance: the same of the mean over the seeds; only of a retraining.
        environment: what it was done on.
        package_version: version of ``lightning_kd`` that did it.
        remarks: what could not be verified, or was different from when the result was made.
    """

    level: Literal["predictions checked", "checkpoint re-evaluated", "retrained"]
    date: Day
    by: Annotated[str, Field(min_length=1, max_length=120)]
    run_set_sha256: Sha256
    seeds: Annotated[tuple[SeedFinding, ...], Field(min_length=1, max_length=1000)]
    tolerance: Annotated[float, Field(ge=0.0, le=RETRAINED_SEED_CAP)]
    mean_tolerance: Annotated[float, Field(ge=0.0, le=RETRAINED_MEAN_CAP)] | None = None
    environment: Environment
    package_version: Text
    remarks: Annotated[tuple[Text, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _within_tolerance(self) -> Self:
        numbers = [finding.seed for finding in self.seeds]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"seeds must be distinct and ascending, got {numbers}")
        for finding in self.seeds:
            if abs(finding.claimed - finding.found) > self.tolerance + _ROUNDING:
                raise ValueError(
                    f"seed {finding.seed}: {finding.found} differs from the claimed {finding.claimed} by more than the "
                    f"tolerance {self.tolerance}"
                )
        return self

    @model_validator(mode="after")
    def _tolerance_of_the_level(self) -> Self:
        if self.tolerance > _WIDEST[self.level]:
            raise ValueError(
                f"a record {self.level!r} accepts differences up to {_WIDEST[self.level]}, got a tolerance of "
                f"{self.tolerance}"
            )
        if self.mean_tolerance is not None and self.level != "retrained":
            raise ValueError(f"only a retraining is judged by the mean over seeds, not {self.level!r}")
        return self

    @model_validator(mode="after")
    def _mean_within_tolerance(self) -> Self:
        if self.level != "retrained":
            return self
        most = RETRAINED_MEAN_CAP if self.mean_tolerance is None else self.mean_tolerance
        difference = sum(finding.found - finding.claimed for finding in self.seeds) / len(self.seeds)
        if abs(difference) > most + _ROUNDING:
            raise ValueError(f"the mean over the seeds differs by {difference}, at most {most} is accepted")
        return self


class VerificationLog(Record):
    """All verifications of an entry, oldest first."""

    schema_version: Literal[1] = 1
    records: Annotated[tuple[VerificationRecord, ...], Field(max_length=200)] = ()


def read_verifications(folder: Path) -> tuple[VerificationRecord, ...]:
    """The records beside a run set; none if nobody has verified it.

    Args:
        folder: of the entry.

    Raises:
        UserError: if the file is corrupt.
    """
    path = folder / VERIFICATION_FILE
    return read_model(path, VerificationLog).records if path.is_file() else ()


def append_verification(folder: Path, record: VerificationRecord) -> Path:
    """Add a record to those beside a run set, atomically; returns the file.

    Args:
        folder: of the entry.
        record: what was found.
    """
    path = folder / VERIFICATION_FILE
    write_model(path, VerificationLog(records=(*read_verifications(folder), record)))
    return path
