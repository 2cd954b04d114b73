"""List the protocols: data, pairs, methods, seeds."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.parser import command_parser


def main(arguments: Sequence[str]) -> int:
    """Print the table of protocols."""
    command_parser(__name__).parse_args(list(arguments))
    with bench_extra():
        from kd_bench.protocol import list_protocols

        from lightning_kd.cli.output import console
        from lightning_kd.cli.protocol_table import protocol_table

        console().print(protocol_table(list_protocols()))
    return 0
