"""List the distillation methods: family, needs, citation."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_kd.cli.parser import command_parser


def main(arguments: Sequence[str]) -> int:
    """Print the table of methods."""
    parser = command_parser(__name__)
    parser.add_argument("--markdown", action="store_true", help="Print a Markdown table, with more columns.")
    options = parser.parse_args(list(arguments))

    from lightning_kd.cli.method_table import markdown_table, method_rows, rich_table
    from lightning_kd.cli.output import console
    from lightning_kd.methods import discover

    if options.markdown:
        print(markdown_table(discover()))
    else:
        console().print(rich_table(method_rows(discover())))
    return 0
