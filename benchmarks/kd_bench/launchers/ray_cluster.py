"""A Ray cluster: one that is running, or one of this machine's own for as long as it is needed."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from kd_bench.errors import UserError
from kd_bench.launchers.threads import environment, thread_environment

CONNECT_SECONDS = 5.0
PROBE_SECONDS = 20.0
STORE_BYTES = 100 * 2**20
"""Size of the local object store: items go through it, a few kilobytes each."""

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_PROBE = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"


@contextmanager
def own_cluster(cpus: float | None, threads: int) -> Iterator[None]:
    """A cluster of this machine alone.

    Args:
        cpus: logical CPUs; ``None`` for as many as there are.
        threads: of each worker process's libraries.
    """
    settings = {**thread_environment(threads), "RAY_USAGE_STATS_ENABLED": "0"}
    with environment(settings):
        ray.init(
            "local",
            num_cpus=None if cpus is None else max(1, round(cpus)),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            # nobody else is meant to use it
            _node_ip_address="127.0.0.1",
            **_QUIET,
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def running_cluster(address: str, threads: int) -> Iterator[None]:
    """A cluster that is there already.

    Args:
        address: ``host:port`` or ``auto``.
        threads: of each worker process's libraries.

    Raises:
        UserError: if it cannot be reached.
    """
    _probe(address)
    ray.init(address, runtime_env={"env_vars": thread_environment(threads)}, **_QUIET)
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Connect in a process that can be given up: Ray itself tries for two minutes, and prints all the while."""
    if "://" in address:
        raise UserError(
            f"cannot use the Ray address {address!r}: give host:port or auto, and start the benchmark on a node of the "
            "cluster, for example with `ray job submit`"
        )
    if address != "auto":
        _knock(address)
    command = [sys.executable, "-c", _PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
        failed, said = bool(done.returncode), done.stderr
    except subprocess.TimeoutExpired as expired:
        failed, said = True, _text(expired.stderr)
    if failed:
        raise _unreachable(address, said)


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"cannot use the Ray address {address!r}: expected host:port, such as 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, f"Error: {getattr(error, 'strerror', None) or error}") from error


def _unreachable(address: str, said: str) -> UserError:
    if "InvalidAuthToken" in said or "AuthenticationError" in said:
        reason = "it wants a token: set RAY_AUTH_MODE=token, with the cluster's token in ~/.ray/auth_token"
    else:
        errors = [line for line in said.splitlines() if "Error: " in line and not line.startswith((" ", "["))]
        silence = f"no answer within {PROBE_SECONDS:.0f} seconds"
        reason = errors[-1].partition("Error: ")[2].partition(". ")[0] if errors else silence
    return UserError(
        f"cannot reach a Ray cluster at {address!r}: {reason.rstrip('.')}. Start one with `ray start --head`, give the "
        "address of its head node, or leave --ray.address out for one on this machine."
    )


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
