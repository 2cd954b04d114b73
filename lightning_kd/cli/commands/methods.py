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

    rows = method_rows(discover())
    if options.markdown:
        print(markdown_table(rows))
    else:
        console().print(rich_table(rows))
    return 0
