"""Run a protocol to its leaderboard.

Finished runs are kept: started again, an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import PositiveInt

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.lists import parse_names, parse_seeds
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.places import RUNS


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and print its table."""
    parser = command_parser(__name__)
    parser.add_argument("protocol", metavar="PROTOCOL", help="Protocol to run; see `lightning-kd bench list`.")
    parser.add_argument("--seeds", metavar="SEEDS", help="Such as 0-4 or 0,1,7; by default all of the protocol's.")
    parser.add_argument("--methods", metavar="NAMES", help="Rows, such as plain,KD, or all; by default the core rows.")
    parser.add_argument("--pairs", metavar="NAMES", help="Pairs to run, separated by commas; by default all.")
    parser.add_argument("--workers", type=PositiveInt, metavar="N", help="Processes; by default two.")
    parser.add_argument("--output", metavar="DIR", default=RUNS, help="Directory for results, logs and teachers.")
    parser.add_argument("--quick", action="store_true", help="A fifth of the epochs, two seeds: to try things out.")
    options = parser.parse_args(list(arguments))
    seeds = None if options.seeds is None else parse_seeds(options.seeds)
    methods = None if options.methods is None else parse_names("--methods", options.methods)
    pairs = None if options.pairs is None else parse_names("--pairs", options.pairs)

    with bench_extra():
        from kd_bench.leaderboard.table import leaderboard_table
        from kd_bench.results import load_run_sets
        from kd_bench.runner import run_benchmark

        from lightning_kd.cli.output import console

        report = run_benchmark(
            options.protocol,
            output=Path(options.output),
            methods=methods,
            pairs=pairs,
            seeds=seeds,
            workers=options.workers,
            quick=options.quick,
        )
        if report.run_sets:
            console().print(leaderboard_table(load_run_sets(report.results)))
            print(f"Results: {report.results}")
    for failure in report.failures:
        print(f"failed: {failure.item}: {failure.message} (log: {failure.log})", file=sys.stderr)
    return report.exit_code
