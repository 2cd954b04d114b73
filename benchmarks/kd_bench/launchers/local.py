"""Worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from kd_bench.items import Item
from kd_bench.launchers.attempt import Done, Failed
from kd_bench.launchers.devices import VISIBLE, gpu_shares
from kd_bench.launchers.events import Failure, Listener
from kd_bench.launchers.process import Advanced, Ready, end_group, serve
from kd_bench.launchers.threads import environment, thread_environment
from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol
from kd_bench.state import mark_ended


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    share: int
    ready: bool = False
    item: Item | None = None


def create(options: LaunchOptions, protocol: Protocol) -> LocalLauncher:
    """The launcher for these options: a process a GPU, or two processes where none is used."""
    shares = gpu_shares(protocol)
    return LocalLauncher(options.workers or len(shares) or default_workers(), options.threads, shares)


def default_workers() -> int:
    """Two, or one on a machine with a single core."""
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class LocalLauncher:
    """Does items in spawned processes that live until all is done or their item fails.

    Args:
        workers: number of processes.
        threads: PyTorch threads of each.
        shares: ``CUDA_VISIBLE_DEVICES`` of the first, second ... process; if there are fewer than processes, some
            share theirs. Nothing for all devices.
    """

    def __init__(self, workers: int, threads: int = 1, shares: Sequence[str] = ()) -> None:
        self.workers = workers
        self.threads = threads
        self.shares = shares

    def run(self, items: Sequence[Item], listener: Listener) -> list[Failure]:
        """Do all items; see :class:`kd_bench.launchers.base.Launcher`."""
        waiting = deque(items)
        failures: list[Failure] = []
        workers = [self._start(share) for share in range(min(self.workers, len(waiting)))]
        try:
            while any(worker.item for worker in workers) or waiting:
                for worker in _ready(workers):
                    failure, usable = _listen(worker, listener)
                    if failure is not None:
                        failures.append(failure)
                        listener.failed(failure)
                        if failure.fatal:
                            waiting.clear()
                    if usable and worker.item is None and waiting:
                        usable = _hand_over(worker, waiting, listener)
                    if not usable:
                        _end(worker)
                        workers.remove(worker)
                        if waiting:
                            workers.append(self._start(worker.share))
        finally:
            for worker in workers:
                _end(worker)
                if worker.item is not None:
                    mark_ended(worker.item.state, "interrupted")
        return failures

    def _start(self, share: int) -> _Worker:
        variables = thread_environment(self.threads)
        if self.shares:
            variables[VISIBLE] = self.shares[share % len(self.shares)]
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # not a daemon: those may not have children, such as processes that load data or train along
        process = context.Process(target=serve, args=(theirs, self.threads))
        with environment(variables):
            process.start()
        theirs.close()
        return _Worker(process, ours, share)


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    ready = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


def _listen(worker: _Worker, listener: Listener) -> tuple[Failure | None, bool]:
    """Heed what a worker says; whether its item failed, and whether the worker can do another one."""
    item = worker.item
    try:
        message = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return _bury(worker), False
    if isinstance(message, Ready):
        worker.ready = True
    if item is None or isinstance(message, Ready):
        return None, True
    if isinstance(message, Advanced):
        listener.advanced(item, message.epoch, message.epochs)
        return None, True
    worker.item = None
    if isinstance(message, Failed):
        # the failed item may have left memory or the GPU in a bad state
        return Failure(item, message.message, item.log, message.retryable, message.fatal), False
    assert isinstance(message, Done)
    listener.finished(item, message.score, message.seconds)
    return None, True


def _bury(worker: _Worker) -> Failure | None:
    worker.process.join()
    code = worker.process.exitcode
    if not worker.ready:
        raise RuntimeError(f"a worker process ended before its first item (exit code {code}); see its output above")
    item, worker.item = worker.item, None
    if item is None:
        return None
    hint = "; it was killed, perhaps for want of memory" if code == -9 else ""
    message = f"its process ended with exit code {code}{hint}"
    mark_ended(item.state, "failed", message)
    return Failure(item, message, item.log)


def _hand_over(worker: _Worker, waiting: deque[Item], listener: Listener) -> bool:
    item = waiting.popleft()
    try:
        worker.connection.send(item)
    except (BrokenPipeError, ConnectionResetError):
        waiting.appendleft(item)
        return False
    worker.item = item
    listener.started(item)
    return True


def _end(worker: _Worker) -> None:
    worker.process.kill()
    assert worker.process.pid is not None
    end_group(worker.process.pid)
    worker.process.join()
    worker.connection.close()
