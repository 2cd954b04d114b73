"""Tasks on a Ray cluster: one that is running, or one of this machine's own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.launchers.devices import uses_gpus
from kd_bench.launchers.events import Failure, Listener
from kd_bench.launchers.ray_cluster import own_cluster, running_cluster
from kd_bench.launchers.ray_session import RaySession
from kd_bench.launchers.relay import Relay
from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol
from kd_bench.state import mark_ended

_ray: Any = ray  # these functions have no types

ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of a running cluster, as inside of ``ray job submit``."""


def create(options: LaunchOptions, protocol: Protocol) -> RayLauncher:
    """The launcher for these options."""
    return RayLauncher(options, protocol)


class RayLauncher:
    """Does items as Ray tasks.

    A process or node that is lost costs no result: Ray starts the task again, and what is finished is on disk. Nodes
    need not share the driver's file system; results, logs and teachers travel through Ray then.

    Args:
        options: number of items at a time, threads, and what an item takes of the cluster.
        protocol: what is run.
    """

    def __init__(self, options: LaunchOptions, protocol: Protocol) -> None:
        self._options, self._protocol = options, protocol
        self._cpus = options.threads if options.ray.cpus is None else options.ray.cpus

    def run(self, items: Sequence[Item], listener: Listener) -> list[Failure]:
        """Do all items; see :class:`kd_bench.launchers.base.Launcher`."""
        session = RaySession(items, Relay(items, listener), self._options.threads)
        try:
            with self._cluster() as is_own:
                resources = self._resources(is_own, listener)
                return session.run(resources, self._options.workers or len(items), is_own=is_own)
        finally:
            # now that nobody works on them any more
            for item in session.unfinished:
                mark_ended(item.state, "interrupted")

    @contextmanager
    def _cluster(self) -> Iterator[bool]:
        """Be connected; whether the cluster is this machine's own."""
        threads, workers = self._options.threads, self._options.workers
        address = self._options.ray.address or os.environ.get(ADDRESS)
        if ray.is_initialized():  # by the script that runs the benchmark
            yield False
        elif address:
            with running_cluster(address, threads):
                yield False
        else:
            with own_cluster(None if workers is None else workers * self._cpus, threads):
                yield True

    def _resources(self, is_own: bool, listener: Listener) -> dict[str, float]:
        """What an item takes."""
        gpus = self._options.ray.gpus
        if gpus is None:
            has_some = _ray.cluster_resources().get("GPU", 0) > 0
            gpus = self._protocol.trainer.devices if has_some and uses_gpus(self._protocol) else 0
        wanted = {"CPU": self._cpus, "GPU": gpus}
        nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            text = f"no node of the Ray cluster has {self._cpus:g} CPUs and {gpus:g} GPUs for a run"
            if is_own:
                raise UserError(f"{text}; set --ray.cpus, --ray.gpus and --threads to what there is")
            listener.note(f"{text}; waiting for one that has")
        return {"num_cpus": self._cpus, "num_gpus": gpus}
