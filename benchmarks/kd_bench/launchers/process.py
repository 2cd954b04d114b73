"""The child process of the local launcher: does items until it is told to stop or its parent is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from kd_bench.items import Item


@dataclass(frozen=True)
class Ready:
    """The process has started."""


@dataclass(frozen=True)
class Advanced:
    """An epoch is done."""

    epoch: int
    epochs: int


@dataclass(frozen=True)
class Done:
    """The item's result is on disk."""

    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The item could not be done; the traceback is in its log."""

    message: str


Message = Ready | Advanced | Done | Failed


def serve(connection: Connection, threads: int) -> None:
    """Receive items and do them; ``None`` ends the process.

    Args:
        connection: items come in, messages go out.
        threads: PyTorch threads of this process.
    """
    # Ctrl-C reaches the whole process group; the parent decides what happens
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _follow_parent()
    import torch

    from kd_bench.worker import run_item

    torch.set_num_threads(threads)
    connection.send(Ready())
    item: Item | None
    while (item := connection.recv()) is not None:
        with _output_to(item.log):
            try:
                result = run_item(item, lambda epoch, epochs: connection.send(Advanced(epoch, epochs)))
                message: Message = Done(result.run.last.accuracy, result.run.seconds)
            except Exception as error:
                traceback.print_exc()
                message = Failed(_summary(error))
        connection.send(message)


def _summary(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _follow_parent() -> None:
    """End with the parent, even if it was killed: nobody would collect the results."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send standard output and error, those of native code included, to a file of their own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = os.dup(1), os.dup(2)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, target)
                os.close(descriptor)
