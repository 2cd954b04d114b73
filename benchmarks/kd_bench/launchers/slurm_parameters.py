"""From ``--slurm`` to submitit's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from submitit import AutoExecutor

from kd_bench.launchers.devices import uses_gpus
from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol

CLUSTER = "cluster"
PREFIX = "slurm_"
DAY_MINUTES = 24 * 60
"""Time limit of a job unless another is given; submitit's own is five minutes."""


def submitit_parameters(options: LaunchOptions, protocol: Protocol) -> dict[str, Any]:
    """What :meth:`submitit.AutoExecutor.update_parameters` is given.

    Args:
        options: their ``slurm`` names parameters that all schedulers share (``timeout_min``, ``mem_gb``,
            ``cpus_per_task``, ``gpus_per_node`` ...) and Slurm's own, such as ``partition``, with or without
            submitit's prefix ``slurm_``.
        protocol: what is run.
    """
    defaults: dict[str, Any] = {
        "name": protocol.id,
        "timeout_min": DAY_MINUTES,
        "cpus_per_task": options.threads,
        "gpus_per_node": protocol.trainer.devices if uses_gpus(protocol) else None,
        "slurm_array_parallelism": options.workers,
    }
    given = {_submitit_name(name): value for name, value in options.slurm.items() if name != CLUSTER}
    return {name: value for name, value in {**defaults, **given}.items() if value is not None}


def cluster_name(settings: Mapping[str, object]) -> str | None:
    """Submitit's cluster: ``slurm``, or ``local`` and ``debug`` for processes on this machine; ``None`` to find out."""
    name = settings.get(CLUSTER)
    return None if name is None else str(name)


def _submitit_name(name: str) -> str:
    return name if name in AutoExecutor._valid_parameters() or name.startswith(PREFIX) else PREFIX + name
