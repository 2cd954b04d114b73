"""What a benchmark was last asked to do, in a file, so that others can tell what is still to come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from kd_bench.errors import UserError
from kd_bench.layout import PLANS
from kd_bench.results import Name, ProtocolRef, Record, Seed, slug
from kd_bench.state import now
from kd_bench.storage import DiskFullError, read_model, write_model

SUFFIX = ".json"


class PairNames(Record):
    """Model names of a pair."""

    student: Name
    teacher: Name


class Selection(Record):
    """The items that a benchmark was asked for: every pair with every method that runs on it and every seed.

    Attributes:
        protocol: what is run.
        pairs: pair name → student and teacher.
        methods: names of the rows.
        seeds: the seeds.
        only_on: method → pairs, where it does not run on all of them.
        asked: when.
    """

    schema_version: Literal[1] = 1
    protocol: ProtocolRef
    pairs: Annotated[dict[Name, PairNames], Field(min_length=1)]
    methods: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    only_on: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    asked: AwareDatetime = Field(default_factory=now)

    def keys(self) -> Iterator[tuple[str, str, int]]:
        """Pair, method and seed of every item."""
        for pair in self.pairs:
            for method in self.methods:
                if pair in self.only_on.get(method, (pair,)):
                    yield from ((pair, method, seed) for seed in self.seeds)


def write_selection(output: Path, selection: Selection) -> None:
    """Keep what was asked for, in place of what was before.

    Args:
        output: the benchmark's output directory; made if missing.
        selection: what was asked for.

    Raises:
        UserError: if nothing can be written there.
    """
    try:
        write_model(output / PLANS / f"{slug(selection.protocol.id)}{SUFFIX}", selection)
    except DiskFullError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot write to the output {output}: {error.strerror or error}. Give a directory that you may write to."
        ) from error


def read_selections(output: Path) -> list[Selection]:
    """What was asked for, protocol by protocol; files that cannot be read are left out: no result depends on them.

    Args:
        output: the benchmark's output directory.
    """
    found = []
    for path in sorted((output / PLANS).glob(f"*{SUFFIX}")):
        try:
            found.append(read_model(path, Selection))
        except UserError:
            continue
    return found
