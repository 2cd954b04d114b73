"""Which jobs do which items, in a file, so that a benchmark that is started again finds the jobs it left behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import submitit
from pydantic import Field

from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.results import Record, Sha256
from kd_bench.storage import read_model, write_model

ALIVE = frozenset({"PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED", "PREEMPTED"})
"""States in which a job may still finish; not ``UNKNOWN``, which may last for ever."""


Key = tuple[str, str, int]


class Jobs(Record):
    """Fingerprint of an item → number of the job that was last submitted for it."""

    schema_version: Literal[1] = 1
    jobs: dict[Sha256, str] = Field(default_factory=dict)


def remember(path: Path, items: Iterable[Item], jobs: Iterable[Any]) -> None:
    """Add jobs to the file.

    Args:
        path: the file.
        items: what they do.
        jobs: submitit's, one an item.
    """
    new = {item.fingerprint: str(job.job_id) for item, job in zip(items, jobs, strict=True)}
    write_model(path, Jobs(jobs={**_read(path), **new}))


def find_jobs(path: Path, folder: Path, items: Iterable[Item]) -> dict[Key, Any]:
    """Jobs of an earlier start of the benchmark that are still queued or running.

    Args:
        path: the file.
        folder: where submitit keeps its files.
        items: what is about to be done.

    Returns:
        Key of an item → submitit's job.
    """
    known = _read(path)
    # all of them first: SLURM is then asked about all at once
    jobs: dict[Key, Any] = {
        item.key: submitit.SlurmJob(folder=folder, job_id=known[item.fingerprint])
        for item in items
        if item.fingerprint in known
    }
    return {key: job for key, job in jobs.items() if job.state.upper() in ALIVE and not job.done()}


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        return read_model(path, Jobs).jobs
    except UserError:  # then they are submitted once more, and whoever is later finds the item finished
        return {}
