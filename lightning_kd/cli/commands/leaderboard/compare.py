"""Compare two methods seed by seed, on every board that has both: score, calibration, time and memory."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.results_option import add_results, results_directory


def main(arguments: Sequence[str]) -> int:
    """Print the comparison."""
    parser = command_parser(__name__)
    parser.add_argument("first", metavar="A", help="A method, or an entry: <protocol>/<method>/<student>__<teacher>.")
    parser.add_argument("second", metavar="B", help="The other; differences are A - B.")
    parser.add_argument("--protocol", metavar="PROTOCOL", help="Only this protocol, such as digits-v1.")
    parser.add_argument("--pair", metavar="PAIR", help="Only this pair, <student>__<teacher>, or its student.")
    add_results(parser)
    options = parser.parse_args(list(arguments))

    with bench_extra():
        from kd_bench.entries import load_entries
        from kd_bench.leaderboard.comparison import compare

        from lightning_kd.cli.comparison_report import comparison_report
        from lightning_kd.cli.output import console

        entries = load_entries(results_directory(options.results))
        found = compare(entries, options.first, options.second, protocol=options.protocol, pair=options.pair)
        printer = console()
        for part in comparison_report(found):
            printer.print(part)
    return 0
