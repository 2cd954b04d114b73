"""Submitit's own processes in place of a SLURM cluster: the same jobs, on this machine."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.launchers.slurm_jobs import find_jobs, remember
from kd_bench.launchers.slurm_parameters import submitit_parameters
from kd_bench.options import LaunchOptions
from kd_bench.protocol import load_protocol
from kd_bench.runner import plan, run_protocol
from kd_bench.state import ItemState, read_state
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


@pytest.mark.skipif(shutil.which("srun") is not None, reason="there is a scheduler")
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
def test_a_job_that_dies_is_told_with_its_last_words_and_tried_again(tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = start(output, "slurm", epochs=40, workers=2, retries=1, slurm="local")
    victims: list[ItemState] = []

    def find() -> bool:
        states = [read_state(path) for path in output.glob("state/**/seed-*.json")]
        victims.extend(state for state in states if state is not None and state.status == "running" and state.epoch)
        return bool(victims)

    wait_for(find, process)
    os.kill(victims[0].pid, signal.SIGKILL)
    said, errors = process.communicate(timeout=300)
    assert "done 4 skipped 0 failed 0" in said, errors
    assert f"{victims[0].method}, seed {victims[0].seed} failed and will be tried again: its job" in errors
    assert "ended without a result" in errors
    log = (output / victims[0].log).read_text()
    assert log.index("attempt 1 at ") < log.index("\njob ") < log.index("attempt 2 at ")
    undisturbed = tmp_path / "local"
    run_protocol(tiny_protocol(40), output=undisturbed, launch=LaunchOptions(workers=2))
    assert numbers(output) == numbers(undisturbed)


def test_jobs_of_an_earlier_start_are_found_as_long_as_they_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the one command of SLURM that is asked about them."""
    states = {"11": "PENDING", "12_0": "RUNNING", "13": "COMPLETED", "14": "CANCELLED by 1000"}
    answer = "".join(f"{number}|{state}|node\n" for number, state in states.items())
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text(f"#!/bin/sh\ncat <<END\nJobID|State|NodeList\n{answer}END\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sacct.parent}{os.pathsep}{os.environ['PATH']}")
    items = plan(tiny_protocol(), tmp_path)
    path = tmp_path / "slurm" / "jobs.json"
    assert find_jobs(path, path.parent, items) == {}
    remember(path, items[:3], [_Job(number) for number in ("11", "12_0", "13")])
    remember(path, items[3:], [_Job("14")])
    found = find_jobs(path, path.parent, items)
    assert {key: job.job_id for key, job in found.items()} == {items[0].key: "11", items[1].key: "12_0"}
    other = tiny_protocol(epochs=3)
    assert find_jobs(path, path.parent, plan(other, tmp_path)) == {}
    path.write_text("{")
    assert find_jobs(path, path.parent, items) == {}


@dataclass
class _Job:
    job_id: str


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
