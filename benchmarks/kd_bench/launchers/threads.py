"""How many threads the libraries of a worker process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables that must be there before PyTorch and NumPy are imported.

    Otherwise every process starts as many threads as there are cores, and all of them get into each other's way.

    Args:
        threads: of each library.
    """
    return dict.fromkeys(_VARIABLES, str(threads))


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """What processes inherit that are started in this block.

    Args:
        changes: environment variables.
    """
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
