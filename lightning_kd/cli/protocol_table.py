"""What `lightning-kd bench list` shows: one row a protocol."""

from __future__ import annotations

from collections.abc import Sequence

from kd_bench.protocol import Protocol
from rich.table import Table


def protocol_table(protocols: Sequence[Protocol]) -> Table:
    """The table of protocols for a terminal.

    Args:
        protocols: what to show, in this order.
    """
    title = f"{len(protocols)} protocol{'s' * (len(protocols) != 1)}"
    table = Table(show_lines=True, title=title, title_justify="left")
    table.add_column("protocol", no_wrap=True, style="bold")
    table.add_column("title")
    table.add_column("pairs")
    table.add_column("methods")
    table.add_column("seeds", no_wrap=True)
    table.add_column("hash", no_wrap=True)
    for protocol in protocols:
        table.add_row(
            protocol.id,
            protocol.title,
            _pairs(protocol),
            _methods(protocol),
            str(len(protocol.seeds)),
            protocol.hash[:12],
        )
    return table


def _pairs(protocol: Protocol) -> str:
    first = next(iter(protocol.pairs))
    more = len(protocol.pairs) - 1
    return first + (f" and {more} more" if more else "")


def _methods(protocol: Protocol) -> str:
    core = protocol.core or tuple(protocol.methods)
    more = len(protocol.methods) - len(core)
    return ", ".join(core) + (f" and {more} more (--methods all)" if more else "")
