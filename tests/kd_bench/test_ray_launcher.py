"""Real Ray clusters on this machine."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.launchers import ray_cluster
from kd_bench.options import LaunchOptions, RayOptions
from kd_bench.runner import run_protocol
from kd_bench.state import ItemState, read_state
from tiny_benchmark import numbers, start, tiny_protocol, wait_for

pytest.importorskip("ray")

EPOCHS = 12


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local launcher makes of it."""
    output = tmp_path_factory.mktemp("local")
    run_protocol(tiny_protocol(EPOCHS), output=output, launch=LaunchOptions(workers=2))
    return output


def _states(output: Path) -> list[ItemState]:
    return [state for path in output.glob("state/**/seed-*.json") if (state := read_state(path)) is not None]


def _in_the_middle(output: Path) -> Callable[[], ItemState | None]:
    def find() -> ItemState | None:
        return next((state for state in _states(output) if state.status == "running" and state.epoch), None)

    return find


@pytest.mark.slow
def test_a_process_that_is_killed_costs_nothing(local: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = start(output, "ray", EPOCHS, workers=2, retries=0)
    found: list[ItemState] = []
    wait_for(lambda: found.extend(filter(None, [_in_the_middle(output)()])) or found, process)
    os.kill(found[0].pid, signal.SIGKILL)
    said, errors = process.communicate(timeout=300)
    assert "done 4 skipped 0 failed 0" in said, errors
    assert numbers(output) == numbers(local)
    attempts = {(state.method, state.seed): state.attempt for state in _states(output)}
    assert attempts[found[0].method, found[0].seed] == 2


@pytest.mark.slow
def test_ctrl_c_leaves_what_another_launcher_goes_on_with(local: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = start(output, "ray", EPOCHS, workers=2)
    wait_for(_in_the_middle(output), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "of 4 runs are finished, the same command goes on" in errors
    assert {state.status for state in _states(output)} <= {"interrupted", "done"}
    run_protocol(tiny_protocol(EPOCHS), output=output, launch=LaunchOptions(workers=2))
    assert numbers(output) == numbers(local)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a running cluster, and a folder whose content its processes do not see."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    temporary = Path(f"/tmp/ray-{port}")  # a short path, because sockets lie below
    ray = f"{Path(sys.executable).with_name('ray')} start --head --block --port {port} --temp-dir {temporary}"
    ray += " --num-cpus 2 --include-dashboard false --object-store-memory 80000000 --disable-usage-stats"
    # for the cluster alone: an empty file system over the folder, and processes that end together
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    cluster = subprocess.Popen(
        [*command, "sh", "-c", f"mount -t tmpfs none {folder} && exec {ray}"],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        said: list[str] = []
        while "runtime started" not in (said[-1] if said else ""):
            said.append(cluster.stdout.readline())
            if not said[-1]:
                pytest.skip(f"no cluster apart from this process can be had: {''.join(said)}")
        yield f"127.0.0.1:{port}", folder
    finally:
        cluster.kill()
        cluster.communicate()
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_nodes_need_not_share_the_file_system(elsewhere: tuple[str, Path], local: Path, tmp_path: Path) -> None:
    address, folder = elsewhere
    process = start(folder / "output", "ray", EPOCHS, address=address, env={"RAY_AUTH_MODE": "disabled"})
    wait_for(_in_the_middle(folder / "output"), process)  # is told while it is running
    said, errors = process.communicate(timeout=300)
    assert "done 4 skipped 0 failed 0" in said, errors
    assert numbers(folder / "output") == numbers(local)
    assert {state.status for state in _states(folder / "output")} == {"done"}
    kept = {path.relative_to(local).parts[:-1] for path in local.rglob("*") if path.is_file()}
    for parts in kept:
        if "version_0" not in parts:  # folders of curves have other names
            assert list(folder.joinpath("output", *parts).iterdir()), parts
    assert len(list(folder.rglob("metrics.csv"))) == 4
    for log in folder.rglob("seed-*.log"):
        assert log.read_text().startswith("attempt 1 at ")


def test_a_closed_port_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match=rf"cannot reach a Ray cluster at '127.0.0.1:{port}': Connection refused"):
        _run_at(f"127.0.0.1:{port}", tmp_path)


@pytest.mark.parametrize("address", ["nonsense", "host:port", "ray://127.0.0.1:10001"])
def test_what_is_no_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot use the Ray address '{address}'"):
        _run_at(address, tmp_path)


@pytest.mark.slow
def test_who_listens_but_is_no_cluster_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "PROBE_SECONDS", 5.0)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match=r"cannot reach a Ray cluster at .*: no answer within 5 seconds"):
            _run_at(f"127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()


@pytest.mark.slow
def test_more_than_this_machine_has_is_refused(tmp_path: Path) -> None:
    options = LaunchOptions("ray", ray=RayOptions(gpus=99))
    with pytest.raises(UserError, match="no node of the Ray cluster has 1 CPUs and 99 GPUs for a run"):
        run_protocol(tiny_protocol(), output=tmp_path, launch=options)


def _run_at(address: str, output: Path) -> None:
    options = LaunchOptions("ray", ray=RayOptions(address=address))
    run_protocol(tiny_protocol(), output=output, launch=options)
