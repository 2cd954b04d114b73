"""The child process of the local launcher: does items until it is told to stop or its parent is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from kd_bench.items import Item
from kd_bench.launchers.attempt import Outcome, attempt


@dataclass(frozen=True)
class Ready:
    """The process has started."""


@dataclass(frozen=True)
class Advanced:
    """An epoch is done."""

    epoch: int
    epochs: int


Message = Ready | Advanced | Outcome


def serve(connection: Connection, threads: int) -> None:
    """Receive items and do them.

    Args:
        connection: items come in, messages go out.
        threads: PyTorch threads of this process.
    """
    _be_apart()
    _follow_parent()
    import torch

    torch.set_num_threads(threads)
    connection.send(Ready())
    while True:
        item: Item = connection.recv()
        connection.send(attempt(item, on_epoch=lambda epoch, epochs: connection.send(Advanced(epoch, epochs))))


def end_group(pid: int) -> None:
    """Kill what a process has started, which :func:`serve` keeps in a process group of its own."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _be_apart() -> None:
    """Leave the terminal's process group: it is the parent who decides what Ctrl-C means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def _follow_parent() -> None:
    """End with the parent, even if it was killed: nobody would collect the results."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            end_group(os.getpid())
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
