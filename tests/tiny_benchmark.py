"""A benchmark of seconds, as a program that tests start, interrupt and kill."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.options import LaunchOptions, RayOptions
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.results import RunSet
from kd_bench.run_set_files import load_run_sets
from kd_bench.runner import BenchmarkInterrupt, run_protocol
from kd_bench.state import ItemState, read_state


def tiny_protocol(epochs: int = 2, methods: Sequence[str] = ("plain", "KD")) -> Protocol:
    """The digits with a teacher of two epochs; two seeds."""
    full = load_protocol("digits-v1")
    assert full.teacher_recipe is not None
    return full.model_copy(
        update={
            "id": "digits-tiny",
            "seeds": (0, 1),
            "methods": {name: full.methods[name] for name in methods},
            "core": (),
            "teacher_recipe": full.teacher_recipe.model_copy(update={"epochs": 2}),
            "student_recipe": full.student_recipe.model_copy(update={"epochs": epochs}),
        }
    )


def state_of(item: Item) -> ItemState:
    """The state of an item that somebody has begun."""
    state = read_state(item.state)
    assert state is not None
    return state


def numbers(output: Path) -> list[tuple[object, ...]]:
    """All that was measured, but for times."""
    return [_numbers(run_set) for run_set in load_run_sets(output / "results")]


def _numbers(run_set: RunSet) -> tuple[object, ...]:
    runs = [(run.seed, run.last, run.best, run.curve, run.predictions_sha256) for run in run_set.runs]
    return run_set.method.name, run_set.teacher, runs


def start(output: Path, launcher: str, epochs: int = 2, **options: object) -> subprocess.Popen[str]:
    """Start the benchmark in a session of its own, as a terminal would."""
    given = [f"--{name}={value}" for name, value in options.items() if name != "env"]
    environment = options.get("env", {})
    assert isinstance(environment, dict)
    return subprocess.Popen(
        [sys.executable, __file__, str(output), launcher, f"--epochs={epochs}", *given],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    # a shell that starts programs in the background has them ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until something has happened, as long as the benchmark is running."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("launcher")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--retries", type=int, default=1)
    parser.add_argument("--address")
    parser.add_argument("--slurm")
    parser.add_argument("--methods", default="plain,KD")
    given = parser.parse_args()
    launch = LaunchOptions(
        launcher=given.launcher,
        workers=given.workers,
        retries=given.retries,
        ray=RayOptions(address=given.address),
        slurm={} if given.slurm is None else {"cluster": given.slurm},
    )
    try:
        protocol = tiny_protocol(given.epochs)
        report = run_protocol(protocol, output=given.output, methods=given.methods.split(","), launch=launch)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BenchmarkInterrupt as interrupt:
        print(interrupt, file=sys.stderr)
        return 130
    print(f"done {report.done} skipped {report.skipped} failed {len(report.failures)}")
    for failure in report.failures:
        print(f"{failure.item}: {failure.message} ({failure.attempts} attempts)")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
