"""Run a protocol to its leaderboard.

Finished runs are kept: started again, an interrupted benchmark goes on where it stopped. `lightning-kd bench status`
shows from elsewhere how far it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.bench_options import add_options, launching, selection
from lightning_kd.cli.parser import command_parser

if TYPE_CHECKING:
    from kd_bench.launchers.events import Failure


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and print its table."""
    parser = command_parser(__name__)
    add_options(parser)
    options = parser.parse_args(list(arguments))
    chosen = selection(options)

    with bench_extra():
        from kd_bench.leaderboard.table import leaderboard_table
        from kd_bench.reported import shipped_reported
        from kd_bench.run_set_files import load_run_sets
        from kd_bench.runner import BenchmarkInterrupt, run_benchmark

        from lightning_kd.cli.output import console

        try:
            report = run_benchmark(options.protocol, output=Path(options.output), **chosen, **launching(options))
        except BenchmarkInterrupt as interrupt:
            print(f"\n{interrupt}", file=sys.stderr)
            raise
        if report.run_sets:
            console().print(leaderboard_table(load_run_sets(report.results), reported=shipped_reported()))
            print(f"Results: {report.results}")
    for failure in report.failures:
        print(_describe(failure), file=sys.stderr)
    return report.exit_code


def _describe(failure: Failure) -> str:
    tries = f"{failure.attempts} attempts, " if failure.attempts > 1 else ""
    return f"failed: {failure.item}: {failure.message} ({tries}log: {failure.log})"
