"""Say which method to try first, from measured results only, with the evidence and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse.typing import PositiveFloat

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.results_option import add_results, results_directory


def main(arguments: Sequence[str]) -> int:
    """Print the recommendation."""
    parser = command_parser(__name__)
    parser.add_argument("--student", metavar="MODEL", help="The student to train; by default any.")
    parser.add_argument("--protocol", metavar="PROTOCOL", help="The protocol most like your task; by default any.")
    parser.add_argument("--family", metavar="FAMILY", help="Only methods of this family, such as features.")
    parser.add_argument(
        "--budget",
        type=PositiveFloat | None,
        metavar="TIMES",
        help="Longest training, in times of the plain student's, such as 1.5.",
    )
    add_results(parser)
    options = parser.parse_args(list(arguments))

    with bench_extra():
        from kd_bench.entries import load_entries
        from kd_bench.leaderboard.recommendation import recommend

        from lightning_kd.cli.output import console
        from lightning_kd.cli.recommendation_report import recommendation_report

        found = recommend(
            load_entries(results_directory(options.results)),
            student=options.student,
            protocol=options.protocol,
            family=options.family,
            budget=options.budget,
        )
        printer = console()
        for part in recommendation_report(found, options.budget):
            printer.print(part)
    return 0
