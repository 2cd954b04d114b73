"""Time and memory of building a large leaderboard, and how fast its page filters and sorts in Chromium.

The exit code is 1 if a median is above its limit: 10 s of processor time and 1 GB for the command, 0.1 s for an answer
of the page.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))

BUILD_SECONDS, BUILD_MB, ANSWER_MS = 10.0, 1000.0, 100.0

_ACT = """async ({selector, value, watched}) => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  }));
  const seen = () => watched.map((one) => document.querySelector(one)?.outerHTML).join();
  const control = document.querySelector(selector), before = seen();
  await painted();
  const start = performance.now();
  if (value === null) control.click();
  else {
    control.value = value;
    control.dispatchEvent(new Event("input", {bubbles: true}));
    control.dispatchEvent(new Event("change", {bubbles: true}));
  }
  while (seen() === before && performance.now() - start < 10000) await painted();
  await painted();
  return performance.now() - start;
}"""
_ROW = "table#results tbody tr.row"
_WATCHED = ["#count", "table#results thead", _ROW]


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        what: was measured.
        value: median.
        worst: of all rounds.
        unit: of both.
        limit: that the median must not exceed; ``None`` where there is none.
    """

    what: str
    value: float
    worst: float
    unit: str
    limit: float | None = None

    @property
    def exceeded(self) -> bool:
        """Whether it is over the limit."""
        return self.limit is not None and self.value > self.limit


def build_figures(leaderboards: Path, page: Path, rounds: int) -> Iterator[Figure]:
    """Time and peak memory of the whole command, each time in a fresh process."""
    command = [sys.executable, "-m", "lightning_kd.cli.main", "leaderboard", "build", str(leaderboards)]
    seconds, busy, peaks = [], [], []
    for _ in range(rounds):
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--output", str(page), "--export"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - start)
        if status:
            raise SystemExit("the page was not built; see above")
        busy.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss * 1024 / 1e6)
    yield Figure("build: wall time of the whole command", statistics.median(seconds), max(seconds), "s")
    # the limit is for this one, which other programs on the machine do not lengthen
    yield Figure("build: its processor time", statistics.median(busy), max(busy), "s", BUILD_SECONDS)
    yield Figure("build: peak resident memory", statistics.median(peaks), max(peaks), "MB", BUILD_MB)
    for path in sorted(page.parent.iterdir()):
        size = path.stat().st_size / 1e6
        yield Figure(f"size of {path.name}", size, size, "MB")


def page_figures(browser: Any, page: Path, rounds: int) -> Iterator[Figure]:
    """Time from an input to the painted answer; a filter is set and cleared in turn."""
    tab = browser.new_page(bypass_csp=True)
    start = time.perf_counter()
    tab.goto(page.as_uri())
    tab.wait_for_selector(_ROW)
    loaded = time.perf_counter() - start
    yield Figure("page: loaded", loaded, loaded, "s")

    def act(selector: str, value: str | None) -> float:
        arguments = {"selector": selector, "value": value, "watched": _WATCHED}
        return float(tab.evaluate(_ACT, arguments))

    filters = {"#filter-text": "Method04", **{name: _second_option(tab, name) for name in _selects(tab)}}
    for selector, value in filters.items():
        times = [act(selector, text) for _ in range(rounds) for text in (value, "")]
        yield Figure(f"filter {selector}: {value}", statistics.median(times), max(times), "ms", ANSWER_MS)
    for key in tab.eval_on_selector_all("button.sort[data-key]", "all => all.map((one) => one.dataset.key)"):
        times = [act(f"button.sort[data-key='{key}']", None) for _ in range(2 * rounds)]
        yield Figure(f"sort by {key}", statistics.median(times), max(times), "ms", ANSWER_MS)


def _selects(tab: Any) -> list[str]:
    names = tab.eval_on_selector_all("select[id^=filter-]", "all => all.map((one) => '#' + one.id)")
    return [str(name) for name in names]


def _second_option(tab: Any, selector: str) -> str:
    return str(tab.eval_on_selector(selector, "control => [...control.options].find((one) => one.value).value"))


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    from chromium import MISSING, chromium

    with tempfile.TemporaryDirectory() as name:
        leaderboards, page = Path(name) / "leaderboards", Path(name) / "site" / "index.html"
        # in a process of its own, which writes from memory: the results come from the disk's cache, not from the disk
        write = [sys.executable, str(TESTS / "many_results.py"), str(leaderboards), "--count", str(options.entries)]
        subprocess.run(write, check=True)
        figures = list(build_figures(leaderboards, page, options.rounds))
        with chromium() as browser:
            if browser is None:
                print(MISSING, file=sys.stderr)
            else:
                figures += page_figures(browser, page, options.rounds)
    Console(width=100).print(_table(figures, options))
    if options.output:
        content = json.dumps([asdict(figure) for figure in figures], indent=1)
        options.output.write_text(content, encoding="utf-8")
    return 1 if any(figure.exceeded for figure in figures) else 0


def _table(figures: list[Figure], options: argparse.Namespace) -> Table:
    table = Table(
        title=f"A leaderboard of {options.entries:,} entries, {options.rounds} rounds",
        caption="Answers of the page: from the input to the painted frame. The limit is for the median.",
    )
    for column in ("what", "median", "worst", "unit", "limit", ""):
        table.add_column(column, justify="right" if column in ("median", "worst", "limit") else "left")
    for figure in figures:
        digits = 0 if figure.value >= 100 else 1
        verdict = "" if figure.limit is None else "over" if figure.exceeded else "ok"
        limit = "" if figure.limit is None else f"{figure.limit:,.0f}"
        table.add_row(
            figure.what, f"{figure.value:,.{digits}f}", f"{figure.worst:,.{digits}f}", figure.unit, limit, verdict
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
