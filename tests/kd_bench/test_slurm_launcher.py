"""Submitit's own processes in place of a SLURM cluster: the same jobs, on this machine."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.launchers.slurm_parameters import submitit_parameters
from kd_bench.options import LaunchOptions
from kd_bench.protocol import load_protocol
from kd_bench.runner import run_protocol
from kd_bench.state import read_state
from tiny_benchmark import numbers, start, tiny_protocol, wait_for

pytest.importorskip("submitit")


def _options(**slurm: str | int) -> LaunchOptions:
    return LaunchOptions(launcher="slurm", workers=2, retries=0, slurm=slurm)


def test_parameters_are_submitits() -> None:
    options = LaunchOptions(launcher="slurm", workers=8, threads=4, slurm={"partition": "gpu", "timeout_min": 30})
    found = submitit_parameters(options, load_protocol("digits-v1"))
    assert found["slurm_partition"] == "gpu"
    assert found["timeout_min"] == 30
    assert found["cpus_per_task"] == 4
    assert found["slurm_array_parallelism"] == 8
    assert found["name"] == "digits-v1"


def test_without_a_scheduler_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this machine has no SLURM"):
        run_protocol(tiny_protocol(), output=tmp_path, launch=_options())


def test_parameters_that_submitit_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"submitit does not accept the parameters of --slurm"):
        run_protocol(tiny_protocol(), output=tmp_path, launch=_options(cluster="local", timeout="soon"))


@pytest.mark.slow
def test_jobs_give_the_numbers_of_the_local_launcher(tmp_path: Path) -> None:
    report = run_protocol(tiny_protocol(), output=tmp_path / "jobs", launch=_options(cluster="local"))
    assert (report.done, report.failures) == (4, ())
    run_protocol(tiny_protocol(), output=tmp_path / "local", launch=LaunchOptions(workers=2))
    assert numbers(tmp_path / "jobs") == numbers(tmp_path / "local")


@pytest.mark.slow
def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = start(output, "slurm", epochs=40, workers=1, slurm="local")
    wait_for(lambda: [path for path in output.glob("state/**/seed-*.json") if read_state(path)], process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "of 4 runs are finished, the same command goes on" in errors
    states = [read_state(path) for path in output.glob("state/**/seed-*.json")]
    assert all(state is not None and state.status in ("interrupted", "done") for state in states)
