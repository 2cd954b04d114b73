"""How the wall time of a matrix of equal items falls with the number of workers, by launcher."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.runner import run_protocol
from kd_bench.state import now, read_state
from kd_bench.teachers import load_teacher
from rich.console import Console
from rich.table import Table

ITEMS = 8


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=600, help="Epochs of an item, on the digits.")
    parser.add_argument("--launchers", nargs="+", default=["local", "ray"])
    options = parser.parse_args()
    table = Table(title=f"{ITEMS} equal items, start of the processes included")
    for heading in ("launcher", "1 worker, s", "2 workers, s", "start, s", "busy, s", "efficiency"):
        table.add_column(heading, justify="left" if heading == "launcher" else "right")
    protocol = _protocol(options.epochs)
    with tempfile.TemporaryDirectory() as folder:
        for launcher in options.launchers:
            one, _, busy = _measure(protocol, launcher, 1, Path(folder) / f"{launcher}-1")
            two, start, _ = _measure(protocol, launcher, 2, Path(folder) / f"{launcher}-2")
            seconds = (f"{value:.1f}" for value in (one, two, start, busy))
            table.add_row(launcher, *seconds, f"{one / (2 * two):.2f}")
    table.caption = "start: until the first of two workers begins an item; busy: sum of the trainings of one worker"
    Console().print(table)


def _protocol(epochs: int) -> Protocol:
    full = load_protocol("digits-v1")
    return full.model_copy(
        update={
            "id": "scaling",
            "seeds": tuple(range(ITEMS)),
            "methods": {"plain": full.methods["plain"]},
            "core": (),
            "teacher_recipe": full.teacher_recipe and full.teacher_recipe.model_copy(update={"epochs": 1}),
            "student_recipe": full.student_recipe.model_copy(update={"epochs": epochs}),
        }
    )


def _measure(protocol: Protocol, launcher: str, workers: int, output: Path) -> tuple[float, float, float]:
    """Wall time, that until the first item is begun, and the sum of the trainings' own times."""
    load_teacher(protocol, next(iter(protocol.pairs.values())).teacher, output / "teachers")
    start, moment = time.perf_counter(), now()
    report = run_protocol(protocol, output=output, launch=LaunchOptions(launcher=launcher, workers=workers))
    seconds = time.perf_counter() - start
    if report.failures:
        raise SystemExit(f"{report.failures[0].item} failed: {report.failures[0].message}")
    states = [read_state(path) for path in output.glob("state/**/seed-*.json")]
    begun = min(state.started for state in states if state is not None)
    return (
        seconds,
        (begun - moment).total_seconds(),
        sum(run.seconds for run_set in report.run_sets for run in run_set.runs),
    )


if __name__ == "__main__":
    main()
