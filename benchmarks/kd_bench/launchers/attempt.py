"""One attempt at an item, in whatever process a launcher has for it."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.heartbeat import Heartbeat, Publish
from kd_bench.items import Item
from kd_bench.process_identity import host_name
from kd_bench.storage import DiskFullError, explain_full_disk, has_room, is_disk_full
from kd_bench.training.recorder import DivergedError, OnEpoch
from kd_bench.worker import run_item


@dataclass(frozen=True)
class Done:
    """The item's result is on disk."""

    score: float
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The item could not be done; see :class:`kd_bench.launchers.events.Failure`."""

    message: str
    retryable: bool = True
    fatal: bool = False


Outcome = Done | Failed


def attempt(
    item: Item,
    *,
    on_epoch: OnEpoch | None = None,
    publish: Publish | None = None,
    prepare: Callable[[], None] | None = None,
    expected: str | None = None,
) -> Outcome:
    """Do an item; its log gets the output, its state says how far it is, and an error becomes an outcome.

    Args:
        item: what to do.
        on_epoch: called after every epoch.
        publish: told the item's state every few seconds.
        prepare: called first; what it raises is the item's failure.
        expected: the item's fingerprint where the benchmark was started, if that is another machine.
    """
    try:
        with Heartbeat(item, publish) as heartbeat, _output_to(item.log):
            return _do(item, heartbeat, on_epoch, prepare, expected)
    except OSError as error:  # not even the log could be written
        return _failed(error, item.output)


def _do(
    item: Item,
    heartbeat: Heartbeat,
    on_epoch: OnEpoch | None,
    prepare: Callable[[], None] | None,
    expected: str | None,
) -> Outcome:
    def advance(epoch: int, epochs: int) -> None:
        heartbeat.advance(epoch, epochs)
        if on_epoch is not None:
            on_epoch(epoch, epochs)

    begun = heartbeat.state
    try:
        print(f"attempt {begun.attempt} at {item}: {begun.started:%Y-%m-%d %H:%M:%S} UTC, {_place()}", flush=True)
        if expected is not None and item.fingerprint != expected:
            raise UserError(
                f"{_place()} would compute other numbers than the machine where the benchmark was started: PyTorch, "
                "Lightning, lightning_kd or the file of the method is another version there; install the same on both"
            )
        if prepare is not None:
            prepare()
        # somebody else may have done it since the benchmark was started
        result = item.load() or run_item(item, advance)
    except Exception as error:
        failed = _failed(error, item.output)
        with contextlib.suppress(OSError):  # the disk may be full
            traceback.print_exc()
        heartbeat.end("failed", failed.message, traceback.format_exc())
        return failed
    heartbeat.end("done")
    return Done(result.run.last.headline, result.run.seconds)


def _failed(error: Exception, output: Path) -> Failed:
    if is_disk_full(error):
        message = str(error) if isinstance(error, DiskFullError) else explain_full_disk(output)
        return Failed(message, fatal=not has_room(output))
    known = isinstance(error, UserError)
    lines = str(error).strip().splitlines()
    parts = [*([] if known else [type(error).__name__]), *lines[:1]]
    return Failed(": ".join(parts), retryable=not known and not isinstance(error, DivergedError))


def _place() -> str:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f"process {os.getpid()} on {host_name()}" + (f", GPUs {gpus}" if gpus else "")


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Append standard output and error, those of native code included, to a file of their own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    _flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            for target, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, target)
                os.close(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream
            stream.flush()
