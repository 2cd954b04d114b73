"""What `lightning-kd bench status` shows: who has finished, who is at work, what went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from kd_bench.status import ItemStatus, ProtocolStatus
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

STATUSES = ("done", "running", "failed", "interrupted", "waiting")
STYLES = {"done": "green", "running": "cyan", "failed": "red", "interrupted": "yellow", "waiting": "dim"}


def status_report(status: ProtocolStatus, output: Path) -> Iterator[RenderableType]:
    """The parts to print for a protocol.

    Args:
        status: how far it is.
        output: the benchmark's output directory, to name the logs.
    """
    yield _headline(status)
    yield _matrix(status)
    if active := status.having("running", "interrupted"):
        yield _active(active, status)
    for item in status.having("failed"):
        yield _failure(item, status, output)
    if not status.having("running") and status.having("failed", "interrupted", "waiting"):
        yield Text(
            "Nothing is running now. If the benchmark has ended, `lightning-kd bench run` with the same options goes "
            "on from here.",
            style="dim",
        )


def _headline(status: ProtocolStatus) -> Text:
    counts = {name: len(status.having(name)) for name in STATUSES}
    parts = [f"{counts['done']} of {len(status.items)} runs finished"]
    parts += [f"{counts[name]} {name}" for name in STATUSES[1:] if counts[name]]
    left = status.remaining
    end = "" if left is None else f"; about {_span(left)} left"
    return Text.assemble((status.protocol, "bold"), f": {', '.join(parts)}{end}")


def _matrix(status: ProtocolStatus) -> Table:
    """One row a method and pair; the cells name seeds."""
    pairs = list(dict.fromkeys(item.pair for item in status.items))
    table = Table()
    table.add_column("method", style="bold", overflow="fold")
    if len(pairs) > 1:
        table.add_column("pair", overflow="fold")
    shown = [name for name in STATUSES if status.having(name)]
    for name in shown:
        table.add_column(f"{name}: seeds", style=STYLES[name])
    rows: dict[tuple[str, str], list[ItemStatus]] = {}
    for item in status.items:
        rows.setdefault((item.method, item.pair), []).append(item)
    for (method, pair), items in rows.items():
        cells = [_ranges(item.seed for item in items if item.status == name) for name in shown]
        table.add_row(method, *([pair] if len(pairs) > 1 else []), *cells)
    return table


def _active(items: Iterable[ItemStatus], status: ProtocolStatus) -> Table:
    table = Table()
    table.add_column("run", overflow="fold")
    table.add_column("state")
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("begun", justify="right", no_wrap=True)
    table.add_column("last sign", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    for item in items:
        state = item.state
        assert state is not None
        again = f" (attempt {state.attempt})" if state.attempt > 1 else ""
        epoch = f"{state.epoch} of {state.epochs}" if state.epochs else "-"
        begun, sign = (f"{_span(status.at - moment)} ago" for moment in (state.started, state.updated))
        where = f"{state.host}, process {state.pid}"
        table.add_row(_name(item, status), Text(item.status + again, STYLES[item.status]), epoch, begun, sign, where)
    return table


def _failure(item: ItemStatus, status: ProtocolStatus, output: Path) -> Text:
    state = item.state
    assert state is not None
    when = f"attempt {state.attempt} on {state.host}, {_span(status.at - state.updated)} ago"
    return Text.assemble(
        ("failed", STYLES["failed"]), f": {_name(item, status)}: {state.message} ({when}; log: {output / state.log})"
    )


def _name(item: ItemStatus, status: ProtocolStatus) -> str:
    several = len({other.pair for other in status.items}) > 1
    return f"{item.method}{f' on {item.pair}' if several else ''}, seed {item.seed}"


def _ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in short.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _span(span: timedelta) -> str:
    """A span of time for people.

    >>> _span(timedelta(seconds=75)), _span(timedelta(hours=26, minutes=5))
    ('1 min', '26 h 5 min')
    """
    seconds = max(0, round(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
