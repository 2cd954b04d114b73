"""Real worker processes; each test starts some, which takes seconds."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_benchmark
from kd_bench.launchers.events import Failure
from kd_bench.launchers.local import LocalLauncher
from kd_bench.process_identity import process_identity
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.results import RunSet
from kd_bench.run_set_files import load_run_sets
from kd_bench.runner import plan
from kd_bench.state import ItemState, read_state

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from kd_bench.runner import run_benchmark
if __name__ == "__main__":
    report = run_benchmark("digits-v1", output=sys.argv[1], methods=["plain", "KD"], quick=True)
    print("done", report.done, "skipped", report.skipped)
    sys.exit(report.exit_code)
"""


class Listener:
    def __init__(self) -> None:
        self.events: list[str] = []

    def started(self, item: object) -> None:
        self.events.append(f"started {item}")

    def advanced(self, item: object, epoch: int, epochs: int) -> None:
        self.events.append(f"advanced {item}: {epoch}/{epochs}")

    def finished(self, item: object, score: float, seconds: float) -> None:
        self.events.append(f"finished {item}")

    def failed(self, failure: Failure) -> None:
        self.events.append(f"failed {failure.item}")

    def postponed(self, failure: Failure) -> None:
        self.events.append(f"postponed {failure.item}")

    def note(self, text: str) -> None:
        self.events.append(f"note: {text}")


def test_a_failing_item_is_logged_and_the_others_go_on(tiny: Protocol, tmp_path: Path) -> None:
    steep = tiny.methods["KD"].model_copy(update={"parameters": {"weight": 1e38}})
    protocol = tiny.model_copy(update={"methods": {"Steep": steep, "plain": tiny.methods["plain"]}, "seeds": (0,)})
    items = plan(protocol, tmp_path)
    listener = Listener()
    (failure,) = LocalLauncher(workers=1).run(items, listener)
    assert failure.item.method_name == "Steep"
    assert failure.message.startswith("DivergedError: the training loss was")
    assert "Traceback" in failure.log.read_text()
    assert items[0].load() is None
    assert items[1].load() is not None
    assert listener.events == [
        "started Steep, seed 0",
        "failed Steep, seed 0",
        "started plain, seed 0",
        "advanced plain, seed 0: 1/2",
        "advanced plain, seed 0: 2/2",
        "finished plain, seed 0",
    ]


def test_a_worker_that_is_killed_costs_its_item_only(tiny: Protocol, tmp_path: Path) -> None:
    items = plan(tiny, tmp_path, methods=["plain"])

    class Killer(Listener):
        def advanced(self, item: object, epoch: int, epochs: int) -> None:
            if item is items[0] and epoch == 1:
                for child in _children():
                    os.kill(child, signal.SIGKILL)

    listener = Killer()
    (failure,) = LocalLauncher(workers=1).run(items, listener)
    assert failure.item is items[0]
    assert "exit code -9" in failure.message
    assert listener.events[-1] == "finished plain, seed 1"


def test_every_process_has_its_own_share_of_the_machine(tiny: Protocol, tmp_path: Path) -> None:
    """A method that leaves behind what its process sees; it fails, so that every item gets a new process."""
    row = MethodRow.model_validate({"class": "machine_witness.Witness"})
    items = plan(tiny.model_copy(update={"methods": {"Witness": row}}), tmp_path)
    before = dict(os.environ)
    failures = LocalLauncher(workers=2, threads=3, shares=["7,8", "GPU-5a"]).run(items, Listener())
    assert os.environ == before
    witnesses = [json.loads(failure.message.partition("Seen: ")[2]) for failure in failures]
    assert {witness["gpus"] for witness in witnesses} == {"7,8", "GPU-5a"}
    assert all(witness["torch"] == 3 for witness in witnesses)
    assert all(set(witness["libraries"]) == {3} for witness in witnesses)
    assert len({witness["pid"] for witness in witnesses}) == 2


def test_a_process_that_failed_does_no_other_item(tiny: Protocol, tmp_path: Path) -> None:
    row = MethodRow.model_validate({"class": "machine_witness.Witness"})
    items = plan(tiny.model_copy(update={"methods": {"Witness": row}}), tmp_path)
    failures = LocalLauncher(workers=1).run(items, Listener())
    assert len({json.loads(failure.message.partition("Seen: ")[2])["pid"] for failure in failures}) == 2


def test_what_an_item_has_started_ends_with_its_process(tiny: Protocol, tmp_path: Path) -> None:
    row = MethodRow.model_validate({"class": "machine_witness.Parent"})
    items = plan(tiny.model_copy(update={"methods": {"Parent": row}, "seeds": (0,)}), tmp_path)
    (failure,) = LocalLauncher(workers=1).run(items, Listener())
    child = int(failure.message.partition("Child: ")[2])
    deadline = time.monotonic() + 30
    while process_identity(child) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_ends_the_processes_and_the_same_command_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = tiny_benchmark.start(output, "local", epochs=40, workers=2)

    def running() -> list[ItemState]:
        states = [read_state(path) for path in output.glob("state/**/seed-*.json")]
        return [state for state in states if state is not None and state.status == "running" and state.epoch]

    tiny_benchmark.wait_for(running, process)
    begun = running()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 4 runs are finished, the same command goes on from there" in errors
    assert all(process_identity(state.pid) is None for state in begun)
    assert not running()
    said, errors = tiny_benchmark.start(output, "local", epochs=40, workers=2).communicate(timeout=300)
    assert "failed 0" in said, errors
    undisturbed = tmp_path / "undisturbed"
    said, errors = tiny_benchmark.start(undisturbed, "local", epochs=40, workers=2).communicate(timeout=300)
    assert "done 4" in said, errors
    assert tiny_benchmark.numbers(output) == tiny_benchmark.numbers(undisturbed)


def _children() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def _numbers(run_sets: list[RunSet]) -> list[tuple[object, ...]]:
    return [
        (run_set.method.name, run.seed, run.last, run.best, run.curve, run.predictions_sha256)
        for run_set in run_sets
        for run in run_set.runs
    ]


def _start(script: Path, output: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, str(script), str(output)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the output of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "bench.py").write_text(SCRIPT)
    output, errors = _start(folder / "bench.py", folder / "output").communicate(timeout=600)
    assert "done 4 skipped 0" in output, errors
    return folder


@pytest.mark.parametrize("whom", ["all processes", "the parent"])
def test_a_killed_benchmark_goes_on_and_ends_in_the_same_numbers(
    whom: str, uninterrupted: Path, tmp_path: Path
) -> None:
    script = uninterrupted / "bench.py"
    broken = tmp_path / "broken"
    process = _start(script, broken)
    # twice: in the middle of the teacher, and when some items are finished
    _wait_for(lambda: list(broken.rglob(".lock")), process)
    _kill(process, whom)
    process = _start(script, broken)
    _wait_for(lambda: list((broken / "runs").rglob("seed-*.json")), process)
    _kill(process, whom)
    finished = len(list((broken / "runs").rglob("seed-*.json")))

    output, errors = _start(script, broken).communicate(timeout=600)
    assert "done" in output, errors
    skipped = int(output.split()[-1])
    assert skipped >= finished >= 1
    assert _numbers(load_run_sets(broken)) == _numbers(load_run_sets(uninterrupted / "output"))


def _kill(process: subprocess.Popen[str], whom: str) -> None:
    if whom == "the parent":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
