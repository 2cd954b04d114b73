"""What a rule says about an entry, and what rules may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kd_bench.protocol import Protocol
from kd_bench.submission.candidate import Candidate
from kd_bench.submission.teachers import TeacherRegistry


@dataclass(frozen=True)
class Finding:
    """A rule that is broken, or something to look at.

    Attributes:
        rule: its name.
        message: what was found, what is expected and what to do.
        notice: whether it does not speak against the entry, but a maintainer should confirm it.
        file: name of the file it is about, if not the folder.
    """

    rule: str
    message: str
    notice: bool = False
    file: str = ""


@dataclass(frozen=True)
class Context:
    """What an entry is judged by.

    Attributes:
        protocols: id → protocols there are.
        registry: the teachers; ``None`` where no leaderboards are at hand.
        others: path → every other entry, of the submission and of the leaderboards.
    """

    protocols: Mapping[str, Protocol]
    registry: TeacherRegistry | None
    others: Mapping[str, Candidate]
