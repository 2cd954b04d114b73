"""Real worker processes; each test starts some, which takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kd_bench.launchers.events import Failure
from kd_bench.launchers.local import LocalLauncher
from kd_bench.protocol import Protocol
from kd_bench.results import RunSet, load_run_sets
from kd_bench.runner import plan

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

    def finished(self, item: object, accuracy: float, seconds: float) -> None:
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
