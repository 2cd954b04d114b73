"""The processes that make batches: how many unless asked otherwise, and how they are started."""

from __future__ import annotations

import os
import sys

_MOST = 8


def default_workers() -> int:
    """One for each core that this process may use, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST, cores)


def start_method(workers: int) -> str | None:
    """How they are started: forked on Linux, as PyTorch does by itself.

    It would not do so inside a process that was spawned, such as a launcher's: there every worker would import PyTorch
    anew and get a copy of the data set.

    Args:
        workers: number of processes.
    """
    return "fork" if workers and sys.platform == "linux" else None
