"""Verify an entry of the leaderboards, and raise its badge if what it claims holds.

predictions: every score is computed again from the stored predictions, and their labels are compared with the test set.
checkpoint: kept weights are evaluated anew. retrain: the students are trained again and compared within what the noise
of the seeds explains. Exit code 0: it holds; 1: it does not, and nothing is recorded; 2: it could not be verified.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import PositiveInt

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.lists import parse_seeds
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.places import LEADERBOARDS, VERIFY_RUNS

LEVELS = ("predictions", "checkpoint", "retrain")


def main(arguments: Sequence[str]) -> int:
    """Verify, print what was found, and return the exit code."""
    parser = command_parser(__name__)
    parser.add_argument("entry", metavar="ENTRY", help="Its folder, or <protocol>/<method>/<student>__<teacher>.")
    parser.add_argument("--level", choices=LEVELS, default=LEVELS[0], help="What is done; see above.")
    parser.add_argument("--leaderboards", metavar="DIR", default=LEADERBOARDS, help="Where the entry is looked for.")
    parser.add_argument("--by", metavar="NAME", help="Who verifies; by default git's user.name.")
    parser.add_argument("--dry-run", action="store_true", help="Record nothing.")
    parser.add_argument("--seeds", metavar="SEEDS", help="checkpoint, retrain: such as 0,2; by default all.")
    parser.add_argument(
        "--weights",
        metavar="DIR",
        help="checkpoint: output of `bench run --keep-weights`, or a folder with seed-<N>.safetensors.",
    )
    add = parser.add_argument_group("for --level retrain").add_argument
    add("--output", metavar="DIR", default=VERIFY_RUNS, help="Where to train; an interrupted training goes on.")
    add("--run-submitted-code", action="store_true", help="Execute the submitted method.py, with your rights.")
    add("--workers", type=PositiveInt, metavar="N", help="Runs at a time; by default two, or one a GPU.")
    add("--threads", type=PositiveInt, metavar="N", default=1, help="PyTorch threads of a run.")
    options = parser.parse_args(list(arguments))
    seeds = None if options.seeds is None else parse_seeds(options.seeds)

    with bench_extra():
        from kd_bench.options import LaunchOptions
        from kd_bench.runner import BenchmarkInterrupt
        from kd_bench.verification.verify import verify

        from lightning_kd.cli.output import console
        from lightning_kd.cli.verification_report import verification_report

        try:
            outcome = verify(
                Path(options.entry),
                level=options.level,
                leaderboards=options.leaderboards,
                by=options.by,
                weights=options.weights,
                seeds=seeds,
                output=options.output,
                run_submitted_code=options.run_submitted_code,
                launch=LaunchOptions(workers=options.workers, threads=options.threads),
                dry_run=options.dry_run,
            )
        except BenchmarkInterrupt as interrupt:
            print(f"\n{interrupt}", file=sys.stderr)
            raise
        printer = console()
        for part in verification_report(outcome):
            printer.print(part)
    return outcome.exit_code
