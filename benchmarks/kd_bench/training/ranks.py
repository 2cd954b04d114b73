"""The processes that train a student together, one a device: starting them, and being one of them."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import secrets
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import NoReturn

import torch
import torch.distributed as dist

from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.storage import DiskFullError
from kd_bench.training.recorder import DivergedError, OnEpoch

_KEY = "KD_BENCH_RANKS_KEY"
_KNOWN = {error.__name__: error for error in (UserError, DivergedError, DiskFullError)}


@dataclass(frozen=True)
class _Task:
    """What every rank is told."""

    item: Item
    threads: int


@dataclass(frozen=True)
class _Stop:
    """What a rank is told when its work is not wanted any more."""


@dataclass(frozen=True)
class _Advanced:
    epoch: int
    epochs: int


@dataclass(frozen=True)
class _Failed:
    kind: str
    message: str


def run_on_ranks(item: Item, on_epoch: OnEpoch | None = None) -> None:
    """Do an item on several devices; its result is on disk afterwards.

    The processes are started by ``torchrun`` and end with this one, however that ends. What they print goes where this
    process prints.

    Args:
        item: what to do; its teacher must be there.
        on_epoch: called after every epoch of the student.

    Raises:
        UserError: if the protocol or a kept file is at fault.
        DivergedError: if the training loss stops being finite.
        RuntimeError: if a process failed for another reason; it has printed why.
    """
    messages: queue.Queue[object] = queue.Queue()
    failed: _Failed | None = None
    with _listening(_Task(item, torch.get_num_threads()), messages) as (address, key):
        devices = item.protocol.trainer.devices
        with _started(devices, address, key) as process:
            while process.poll() is None:
                for message in _pending(messages, 0.2):
                    failed = failed or _heed(message, on_epoch)
    for message in _pending(messages, 0.0):  # what was said last
        failed = failed or _heed(message, on_epoch)
    if failed is not None:
        raise _KNOWN.get(failed.kind, RuntimeError)(failed.message)
    if process.returncode:
        raise RuntimeError(
            f"the processes of {item} ended with exit code {process.returncode}; see their output, and whether memory "
            "was short"
        )


def _heed(message: object, on_epoch: OnEpoch | None) -> _Failed | None:
    if isinstance(message, _Advanced) and on_epoch is not None:
        on_epoch(message.epoch, message.epochs)
    return message if isinstance(message, _Failed) else None


@contextmanager
def _started(devices: int, address: str, key: bytes) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
        *("--nproc-per-node", str(devices), "-m", "kd_bench.training.ranks", address),
    ]
    environment = {
        **os.environ,
        _KEY: key.hex(),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()  # the ranks are told apart
            process.wait()


@contextmanager
def _listening(task: _Task, messages: queue.Queue[object]) -> Iterator[tuple[str, bytes]]:
    """Tell every process that connects what to do, and gather what they say, to the last word."""
    key = secrets.token_bytes(32)
    hearing: list[threading.Thread] = []
    connections: list[Connection] = []
    over = threading.Event()

    def hear(connection: Connection) -> None:
        with contextlib.suppress(EOFError, OSError), connection:
            connection.send(task)
            while True:
                messages.put(connection.recv())

    def accept() -> None:
        while True:
            with contextlib.suppress(EOFError, OSError, AuthenticationError):
                connection = listener.accept()
                if over.is_set():
                    connection.close()
                    return
                connections.append(connection)
                hearing.append(threading.Thread(target=hear, args=(connection,), daemon=True))
                hearing[-1].start()

    with Listener(authkey=key) as listener:
        address = str(listener.address)
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield address, key
        except BaseException:
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(_Stop())
            raise
        finally:
            over.set()
            Client(address, authkey=key).close()  # nothing else wakes it
            accepting.join()
            for thread in hearing:
                thread.join(5.0)


def _pending(messages: queue.Queue[object], seconds: float) -> Iterator[object]:
    try:
        yield messages.get(timeout=seconds) if seconds else messages.get_nowait()
        while True:
            yield messages.get_nowait()
    except queue.Empty:
        return


def main(address: str) -> None:
    """Be a rank.

    Args:
        address: where the process listens that started the ranks.
    """
    # the module that was started is not the one that the other process knows
    from kd_bench.training import ranks

    ranks.serve(Client(address, authkey=bytes.fromhex(os.environ.pop(_KEY))), int(os.environ["RANK"]))
    ranks.leave()


def leave() -> NoReturn:
    """End this process with success, without taking the interpreter down.

    Threads of PyTorch's process groups outlive their work. Now and then (2 of 60 bare FSDP2 scripts on PyTorch 2.14)
    one of them aborts the process while the interpreter is taken down, after everything has been written.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def serve(connection: Connection, rank: int) -> None:
    """Do what the other process wants, and end with it.

    Args:
        connection: to the process that started the ranks.
        rank: number of this process.
    """
    from kd_bench.worker import run_rank

    task = connection.recv()
    torch.set_num_threads(task.threads)
    threading.Thread(target=_follow, args=(connection,), daemon=True).start()
    try:
        run_rank(task.item, rank, lambda epoch, epochs: connection.send(_Advanced(epoch, epochs)))
    except BaseException as error:
        traceback.print_exc()
        connection.send(_Failed(type(error).__name__, str(error)))
        raise SystemExit(1) from None


def _follow(connection: Connection) -> None:
    """End at once when the other process says so, or is gone."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
