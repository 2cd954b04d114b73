"""Where data sets are on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.models.download import default_cache_dir

DATA_VARIABLE = "KD_BENCH_DATA"

_offline: ContextVar[bool] = ContextVar("offline", default=False)


def data_dir() -> Path:
    """The folder that the environment variable ``KD_BENCH_DATA`` names, else one beside the downloaded models.

    Raises:
        UserError: if the variable names something that is not a folder.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return default_cache_dir() / "data"
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(f"the environment variable {DATA_VARIABLE} is {named!r}, which is not a folder; correct it.")
    return folder


@contextmanager
def only_what_is_here() -> Iterator[None]:
    """A block in which data sets that are not on this machine are missing, not downloaded."""
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def refuse_download(title: str) -> None:
    """Called before a data set is downloaded.

    Args:
        title: of the data set.

    Raises:
        UserError: within :func:`only_what_is_here`.
    """
    if _offline.get():
        raise UserError(f"{title} is not on this machine, and is not downloaded for this.")
