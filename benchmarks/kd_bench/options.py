"""How a benchmark is run, as opposed to what is run: nothing here changes a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kd_bench.errors import UserError
from kd_bench.names import unknown

CHECKPOINT_SECONDS = 60.0

LAUNCHERS = ("local", "ray", "slurm")
"""Names of the modules in :mod:`kd_bench.launchers` that have a launcher."""

Value = str | int | float | bool


@dataclass(frozen=True)
class RunOptions:
    """Choices of whoever starts a benchmark; they travel with the items to wherever these are done.

    Attributes:
        loggers: where the curves of the trainings go besides the CSV files: ``wandb``, ``tensorboard``, ``mlflow``.
        checkpoint_seconds: a training that lasts longer leaves a checkpoint this often, from which it goes on if it is
            interrupted.
        keep_weights: whether the trained students are kept; a finished item whose student was not kept is done again,
            in the same numbers.
    """

    loggers: tuple[str, ...] = ()
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    keep_weights: bool = False


@dataclass(frozen=True)
class RayOptions:
    """What an item takes of a Ray cluster.

    Attributes:
        address: of a running cluster, ``host:port`` or ``auto``; ``None`` for one of this machine's own, which is
            started and stopped.
        cpus: logical CPUs of an item; ``None`` for as many as it has threads.
        gpus: GPUs of an item, also a part of one; ``None`` for one a device of the training, if the cluster has any.
    """

    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class LaunchOptions:
    """Where items are done, and what happens if one fails.

    Attributes:
        launcher: one of :data:`LAUNCHERS`.
        workers: how many items at a time, at most; ``None`` for what suits the launcher.
        threads: PyTorch threads of an item. Sums are not associative in floating point: with another number of threads
            the last digits may differ on a CPU.
        retries: how often an item that failed is tried again, after the others.
        ray: for the launcher ``ray``.
        slurm: for the launcher ``slurm``: submitit's parameters.
    """

    launcher: str = "local"
    workers: int | None = None
    threads: int = 1
    retries: int = 1
    ray: RayOptions = field(default_factory=RayOptions)
    slurm: Mapping[str, Value] = field(default_factory=dict)

    def check(self) -> None:
        """Find mistakes before anything is done.

        Raises:
            UserError: for an unknown launcher or an impossible number.
        """
        if self.launcher not in LAUNCHERS:
            raise unknown("launcher", self.launcher, LAUNCHERS)
        for name, value, least in (
            ("workers", self.workers, 1),
            ("threads", self.threads, 1),
            ("retries", self.retries, 0),
            ("ray.cpus", self.ray.cpus, 0),
            ("ray.gpus", self.ray.gpus, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"{name} must be at least {least}, got {value}")
