"""The registry of teachers, ``leaderboards/teachers.json``: by whom the students of a protocol may have been taught.

A published teacher has one file of weights, and results that name another one were made with another teacher. A teacher
that is trained on the spot differs from machine to machine in its last digits, and so does its hash: a new one is
accepted if it is about as good as those that are registered, and a maintainer confirms it by adding it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kd_bench.protocol import Protocol
from kd_bench.results import DetectionTeacherInfo, Fraction, Name, Record, RunSet, Sha256, TeacherInfo, Text
from kd_bench.storage import read_model, write_model

REGISTRY = "teachers.json"

TOLERANCE = 0.01
"""How far the score of a teacher that was trained on another machine may be from a registered one, as a fraction."""

Origin = Literal["published", "trained on the spot"]


class RegisteredTeacher(Record):
    """One file of weights of one teacher.

    Attributes:
        weights_sha256: hash of the weights as we keep them, safetensors.
        score: its test accuracy (AP of a detector), measured by the benchmark.
        parameters: number of parameters.
        origin: whether its authors published it, or the protocol's teacher recipe made it.
        source: where the published weights come from; ``None`` for one that was trained on the spot.
        source_sha256: hash that the protocol pins of the published file, or its beginning.
        added_by: who registered it.
        truth_sha256: hash of the annotations that a detector was scored against.
    """

    weights_sha256: Sha256
    score: Fraction
    parameters: Annotated[int, Field(ge=1)]
    origin: Origin
    source: Text | None = None
    source_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None
    added_by: Annotated[str, Field(min_length=1, max_length=120)]
    truth_sha256: Sha256 | None = None

    def describes(self, info: TeacherInfo | DetectionTeacherInfo) -> bool:
        """Whether a run set says the same of the teacher with this hash."""
        truth = info.truth_sha256 if isinstance(info, DetectionTeacherInfo) else None
        return (
            info.weights_sha256 == self.weights_sha256
            and info.headline == self.score
            and info.parameters == self.parameters
            and (truth is None or self.truth_sha256 in (None, truth))
        )


class TeacherRegistry(Record):
    """Protocol → name of the teacher → its registered weights."""

    schema_version: Literal[1] = 1
    protocols: dict[Name, dict[Name, Annotated[tuple[RegisteredTeacher, ...], Field(min_length=1, max_length=1000)]]]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for protocol, teachers in self.protocols.items():
            for name, known in teachers.items():
                hashes = [teacher.weights_sha256 for teacher in known]
                if len(set(hashes)) < len(hashes):
                    raise ValueError(f"{protocol}.{name} lists the same weights twice")
        return self

    def known(self, protocol: str, teacher: str) -> tuple[RegisteredTeacher, ...]:
        """The registered weights of a teacher; none if it is unknown.

        Args:
            protocol: its id.
            teacher: model name.
        """
        return self.protocols.get(protocol, {}).get(teacher, ())


def read_registry(leaderboards: Path) -> TeacherRegistry:
    """The registry of leaderboards; an empty one if they have none.

    Args:
        leaderboards: the folder.

    Raises:
        UserError: if it is corrupt.
    """
    path = leaderboards / REGISTRY
    return read_model(path, TeacherRegistry) if path.is_file() else TeacherRegistry(protocols={})


def register(
    registry: TeacherRegistry, run_sets: Iterable[RunSet], protocols: Iterable[Protocol], added_by: str
) -> TeacherRegistry:
    """The registry with the teachers of run sets that it does not have yet, sorted.

    Args:
        registry: stays as it is.
        run_sets: results whose teachers are to be trusted.
        protocols: those of the run sets.
        added_by: who vouches for the teachers.
    """
    by_id = {protocol.id: protocol for protocol in protocols}
    found = {protocol: dict(teachers) for protocol, teachers in registry.protocols.items()}
    for run_set in run_sets:
        info, protocol = run_set.teacher, by_id[run_set.protocol.id]
        known = found.setdefault(protocol.id, {}).get(info.name, ())
        if all(teacher.weights_sha256 != info.weights_sha256 for teacher in known):
            added = (*known, _registered(info, protocol, added_by))
            found[protocol.id][info.name] = tuple(sorted(added, key=lambda teacher: teacher.weights_sha256))
    ordered = {protocol: dict(sorted(teachers.items())) for protocol, teachers in sorted(found.items())}
    return TeacherRegistry(protocols=ordered)


def write_registry(leaderboards: Path, registry: TeacherRegistry) -> Path:
    """Write the registry atomically; returns the file.

    Args:
        leaderboards: the folder.
        registry: what to write.
    """
    path = leaderboards / REGISTRY
    write_model(path, registry)
    return path


def is_published(protocol: Protocol, teacher: str) -> bool:
    """Whether a protocol's teacher comes with weights that are used as they are.

    Args:
        protocol: the protocol.
        teacher: model name.
    """
    source = protocol.teachers.get(teacher)
    return source is not None and not source.finetune


def _registered(info: TeacherInfo | DetectionTeacherInfo, protocol: Protocol, added_by: str) -> RegisteredTeacher:
    source = protocol.teachers.get(info.name)
    published = is_published(protocol, info.name)
    return RegisteredTeacher(
        weights_sha256=info.weights_sha256,
        score=info.headline,
        parameters=info.parameters,
        origin="published" if published else "trained on the spot",
        source=None if source is None else source.source,
        source_sha256=None if source is None else source.sha256,
        added_by=added_by,
        truth_sha256=info.truth_sha256 if isinstance(info, DetectionTeacherInfo) else None,
    )
