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
from kd_bench.launchers.events import Failure, Listener
from kd_bench.launchers.process import Advanced, Done, Failed, serve


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    item: Item | None = None


def default_workers() -> int:
    """Two, or one on a machine with a single core."""
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class LocalLauncher:
    """Does items in spawned processes that live until all is done, each with its own PyTorch threads.

    Args:
        workers: number of processes.
        threads: PyTorch threads of each.
    """

    def __init__(self, workers: int, threads: int = 1) -> None:
        self.workers = workers
        self.threads = threads

    def run(self, items: Sequence[Item], listener: Listener) -> list[Failure]:
        """Do all items. A failing item, or one that takes its process down, does not stop the others.

        Args:
            items: what to do; started in this order.
            listener: told about every item.

        Returns:
            The items that could not be done.

        Raises:
            KeyboardInterrupt: on Ctrl-C, after the processes have been ended; finished items stay finished.
        """
        waiting = deque(items)
        failures: list[Failure] = []
        workers = [self._start() for _ in range(min(self.workers, len(waiting)))]
        try:
            while any(worker.item for worker in workers) or waiting:
                ready = wait([worker.connection for worker in workers])
                for worker in [worker for worker in workers if worker.connection in ready]:
                    try:
                        message = worker.connection.recv()
                    except (EOFError, ConnectionResetError):
                        workers.remove(worker)
                        failures += self._bury(worker, listener)
                        if waiting:
                            workers.append(self._start())
                        continue
                    failures += self._heed(worker, message, waiting, listener)
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()
                worker.connection.close()
        return failures

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self.threads), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _heed(self, worker: _Worker, message: object, waiting: deque[Item], listener: Listener) -> list[Failure]:
        failures = []
        if worker.item is not None:
            if isinstance(message, Advanced):
                listener.advanced(worker.item, message.epoch, message.epochs)
                return []
            if isinstance(message, Done):
                listener.finished(worker.item, message.accuracy, message.seconds)
            if isinstance(message, Failed):
                failures = [Failure(worker.item, message.message, worker.item.log)]
                listener.failed(failures[0])
        worker.item = waiting.popleft() if waiting else None
        if worker.item is not None:
            worker.connection.send(worker.item)
            listener.started(worker.item)
        return failures

    def _bury(self, worker: _Worker, listener: Listener) -> list[Failure]:
        worker.process.join()
        worker.connection.close()
        code = worker.process.exitcode
        if worker.item is None:
            raise RuntimeError(f"a worker process ended before its first item (exit code {code}); see its output above")
        hint = "; it was killed, perhaps for want of memory" if code == -9 else ""
        failure = Failure(worker.item, f"its process ended with exit code {code}{hint}", worker.item.log)
        listener.failed(failure)
        return [failure]
