"""How many processes make batches unless asked otherwise."""

from __future__ import annotations

import os

_MOST = 8


def default_workers() -> int:
    """One for each core that this process may use, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST, cores)
