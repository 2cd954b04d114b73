"""Where data sets are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.models.download import default_cache_dir

DATA_VARIABLE = "KD_BENCH_DATA"


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
