"""Show how far a benchmark is: finished, running, failed and waiting runs; also while it is running elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.parser import command_parser
from lightning_kd.cli.places import RUNS


def main(arguments: Sequence[str]) -> int:
    """Print the status of every protocol in the output directory."""
    parser = command_parser(__name__)
    parser.add_argument("output", nargs="?", metavar="OUTPUT", default=RUNS, help="Output of `bench run`.")
    options = parser.parse_args(list(arguments))
    output = Path(options.output)

    with bench_extra():
        from kd_bench.status import read_status

        from lightning_kd.cli.output import console
        from lightning_kd.cli.status_table import status_report

        printer = console()
        for number, status in enumerate(read_status(output)):
            if number:
                printer.print()
            for part in status_report(status, output):
                printer.print(part, soft_wrap=isinstance(part, Text))
    return 0
