"""How far an item is, in a small file beside the results: for whoever looks on, never for the results themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from kd_bench.errors import UserError
from kd_bench.process_identity import is_gone
from kd_bench.results import Count, Name, Record, Seed, Sha256
from kd_bench.storage import read_model, write_model

HEARTBEAT_SECONDS = 5.0
"""How often the state of a running item is written anew, though nothing may have happened."""

STALE = timedelta(seconds=120)
"""After so long without a heartbeat nobody works on an item any more; the clocks of machines may differ a little."""

Status = Literal["running", "done", "failed", "interrupted"]


class ItemState(Record):
    """What an attempt at an item is doing, or how it ended.

    Attributes:
        protocol: id of the protocol.
        pair: name of the pair in the protocol.
        method: name of the row.
        seed: the seed.
        fingerprint: of the item.
        status: as far as the attempt itself could tell; see :func:`judge`.
        attempt: how often the item has been begun, over all starts of the benchmark.
        epoch: epochs done, of all trainings that the item takes together.
        epochs: epochs planned; 0 before the first is done.
        host: name of the machine.
        pid: number of the process.
        identity: see :func:`kd_bench.process_identity.process_identity`.
        started: when the attempt began.
        advanced: when the last epoch was done.
        updated: when this was written.
        message: why it failed, in one line.
        traceback: where it failed.
        log: the item's log, relative to the output directory.
    """

    schema_version: Literal[1] = 1
    protocol: Name
    pair: Name
    method: Name
    seed: Seed
    fingerprint: Sha256
    status: Status
    attempt: Annotated[int, Field(ge=1)]
    epoch: Count = 0
    epochs: Count = 0
    host: str
    pid: int
    identity: str | None = None
    started: AwareDatetime
    advanced: AwareDatetime
    updated: AwareDatetime
    message: str | None = None
    traceback: str | None = None
    log: str


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def read_state(path: Path) -> ItemState | None:
    """The state in a file; ``None`` if there is none, or it cannot be read: nothing depends on it."""
    if not path.exists():
        return None
    try:
        return read_model(path, ItemState)
    except UserError:
        return None


def write_state(path: Path, state: ItemState) -> None:
    """Write a state; where that is impossible, a full disk for example, do without."""
    try:
        write_model(path, state)
    except OSError:
        return


def judge(state: ItemState, at: datetime) -> Status:
    """The status as seen from outside: an attempt that says it is running may have been killed.

    Args:
        state: what the attempt wrote last.
        at: the time.
    """
    if state.status == "running" and (is_gone(state.pid, state.identity) or at - state.updated > STALE):
        return "interrupted"
    return state.status


def mark_ended(path: Path, status: Status, message: str | None = None) -> None:
    """Say how an attempt ended that cannot say so itself any more, unless it has.

    Args:
        path: the item's state.
        status: ``interrupted`` or ``failed``.
        message: why.
    """
    state = read_state(path)
    if state is not None and state.status == "running":
        write_state(path, state.model_copy(update={"status": status, "message": message, "updated": now()}))
