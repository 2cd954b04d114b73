"""How far a benchmark is: live bars on a terminal, one line an item elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kd_bench.items import Item
from kd_bench.launchers.events import Failure, Listener


@contextmanager
def progress_display(title: str, total: int, skipped: int, console: Console | None = None) -> Iterator[Listener]:
    """A listener for a launcher that shows progress while the block runs.

    Args:
        title: what is running.
        total: number of items.
        skipped: how many of them were finished before.
        console: where to show it; standard error by default.
    """
    console = console or Console(stderr=True, highlight=False)
    if skipped:
        console.print(f"{title}: {skipped} of {total} runs were finished before")
    if not console.is_terminal:
        yield _Lines(console, total, skipped)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remaining]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress, title, total, skipped)


class _Clock:
    """Expected remaining time, from the items done so far in this session."""

    def __init__(self, total: int, skipped: int) -> None:
        self.total, self.done, self._skipped = total, skipped, skipped
        self._start = time.monotonic()

    def tick(self) -> str:
        self.done += 1
        left = self.total - self.done
        if not left:
            return ""
        seconds = (time.monotonic() - self._start) / (self.done - self._skipped) * left
        return f"about {timedelta(seconds=round(seconds))} left"


class _Lines:
    def __init__(self, console: Console, total: int, skipped: int) -> None:
        self._console, self._clock = console, _Clock(total, skipped)

    def started(self, item: Item) -> None:
        pass

    def advanced(self, item: Item, epoch: int, epochs: int) -> None:
        pass

    def finished(self, item: Item, score: float, seconds: float) -> None:
        self._print(f"{item}: {100 * score:.2f} % in {seconds:.1f} s")

    def failed(self, failure: Failure) -> None:
        self._print(f"{failure.item} FAILED: {failure.message} (log: {failure.log})")

    def postponed(self, failure: Failure) -> None:
        self.note(_postponement(failure))

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _print(self, text: str) -> None:
        remaining = self._clock.tick()
        self.note(f"[{self._clock.done}/{self._clock.total}] {text}" + (f", {remaining}" if remaining else ""))


class _Bars:
    def __init__(self, progress: Progress, title: str, total: int, skipped: int) -> None:
        self._progress, self._clock = progress, _Clock(total, skipped)
        self._overall = progress.add_task(title, total=total, completed=skipped, unit="runs", remaining="")
        self._running: dict[tuple[str, str, int], TaskID] = {}

    def started(self, item: Item) -> None:
        self._running[item.key] = self._progress.add_task(f"  {item}", total=None, unit="epochs", remaining="")

    def advanced(self, item: Item, epoch: int, epochs: int) -> None:
        self._progress.update(self._running[item.key], completed=epoch, total=epochs)

    def finished(self, item: Item, score: float, seconds: float) -> None:
        self._end(item)

    def failed(self, failure: Failure) -> None:
        self._end(failure.item)
        self._print(f"{failure.item} failed: {failure.message} (log: {failure.log})", "red")

    def postponed(self, failure: Failure) -> None:
        self._remove(failure.item)
        self._print(_postponement(failure), "yellow")

    def note(self, text: str) -> None:
        self._print(text, "dim")

    def _end(self, item: Item) -> None:
        self._remove(item)
        self._progress.update(self._overall, advance=1, remaining=self._clock.tick())

    def _remove(self, item: Item) -> None:
        # an item may fail before anybody has begun it
        if item.key in self._running:
            self._progress.remove_task(self._running.pop(item.key))

    def _print(self, text: str, style: str) -> None:
        self._progress.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _postponement(failure: Failure) -> str:
    return f"{failure.item} failed and will be tried again: {failure.message} (log: {failure.log})"
