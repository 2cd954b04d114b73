"""How the wall time of a matrix of equal items falls with the number of workers, by launcher."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.runner import run_protocol
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
    for heading in ("launcher", "1 worker, s", "2 workers, s", "busy, s", "efficiency"):
        table.add_column(heading, justify="left" if heading == "launcher" else "right")
    protocol = _protocol(options.epochs)
    with tempfile.TemporaryDirectory() as folder:
        for launcher in options.launchers:
            one, busy = _measure(protocol, launcher, 1, Path(folder) / f"{launcher}-1")
            two, _ = _measure(protocol, launcher, 2, Path(folder) / f"{launcher}-2")
            table.add_row(launcher, f"{one:.1f}", f"{two:.1f}", f"{busy:.1f}", f"{one / (2 * two):.2f}")
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


def _measure(protocol: Protocol, launcher: str, workers: int, output: Path) -> tuple[float, float]:
    """Wall time, and the sum of the trainings' own times."""
    load_teacher(protocol, next(iter(protocol.pairs.values())).teacher, output / "teachers")
    start = time.perf_counter()
    report = run_protocol(protocol, output=output, launch=LaunchOptions(launcher=launcher, workers=workers))
    seconds = time.perf_counter() - start
    if report.failures:
        raise SystemExit(f"{report.failures[0].item} failed: {report.failures[0].message}")
    return seconds, sum(run.seconds for run_set in report.run_sets for run in run_set.runs)


if __name__ == "__main__":
    main()
