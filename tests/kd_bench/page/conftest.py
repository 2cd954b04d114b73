"""The page in a real browser that reaches nothing but the page, and fails a test on any error or request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from chromium import MISSING, chromium
from kd_bench.entries import Entry
from kd_bench.leaderboard.page import build_page
from kd_bench.reported import shipped_reported
from many_results import many_entries

ROWS = "table#results tbody tr.row[data-entry]"


@dataclass
class Tab:
    """A tab with the page.

    Attributes:
        page: Playwright's page.
        address: of the page.
        problems: errors in the console and in scripts, dialogs, and requests for anything but the page.
    """

    page: Any
    address: str
    problems: list[str] = field(default_factory=list)

    def open(self, fragment: str = "") -> None:
        """Load the page anew."""
        self.page.goto("about:blank")
        self.page.goto(self.address + fragment)

    def shown(self) -> list[str]:
        """The entries of the rows that can be seen, from top to bottom."""
        script = "rows => rows.filter((row) => row.checkVisibility()).map((row) => row.dataset.entry)"
        found: list[str] = self.page.eval_on_selector_all(ROWS, script)
        return found

    def row(self, entry: str) -> Any:
        """The row of an entry."""
        return self.page.locator(f"{ROWS}[data-entry='{entry}']")

    def detail(self, entry: str) -> Any:
        """What unfolds below the row of an entry."""
        return self.page.locator(f".detail[data-entry='{entry}']")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as found:
        if found is None:
            pytest.skip(MISSING)
        yield found


@pytest.fixture(scope="session")
def entries() -> list[Entry]:
    """Four boards of 21 rows; papers report figures for the pair of the first."""
    return [_reported_pair(entry) if index < 21 else entry for index, entry in enumerate(many_entries(84, rows=21))]


def _reported_pair(entry: Entry) -> Entry:
    run_set = entry.run_set
    names = {
        "student": run_set.student.model_copy(update={"name": "resnet8x4"}),
        "teacher": run_set.teacher.model_copy(update={"name": "resnet32x4"}),
    }
    renamed = replace(entry, run_set=run_set.model_copy(update=names))
    corrections = tuple(one.model_copy(update={"entry": renamed.path}) for one in entry.corrections)
    return replace(renamed, corrections=corrections)


@pytest.fixture(scope="session")
def page_file(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page(entries, tmp_path_factory.mktemp("site") / "index.html", reported=shipped_reported())


@pytest.fixture
def tab(new_tab: Callable[..., Tab], page_file: Path) -> Tab:
    return new_tab(page_file)


@pytest.fixture
def new_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens a page in a tab, ``new_tab(page_file, **settings)``; at the end nothing may have gone wrong in it."""
    with ExitStack() as stack:
        yield lambda page_file, **settings: stack.enter_context(_open_tab(browser, page_file, **settings))


@contextmanager
def _open_tab(browser: Any, page_file: Path, **settings: Any) -> Iterator[Tab]:
    """A tab of its own.

    Args:
        browser: Playwright's browser.
        page_file: the page.
        settings: of the browser's context.
    """
    context = browser.new_context(accept_downloads=True, **settings)
    context.set_default_timeout(10_000)
    address = page_file.as_uri()
    opened = Tab(context.new_page(), address)

    def watch(route: Any) -> None:
        if route.request.url.partition("#")[0].partition("?")[0] == address:
            route.continue_()
        else:
            opened.problems.append(f"request: {route.request.url}")
            route.abort()

    def dismiss(dialog: Any) -> None:
        opened.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    context.route("**/*", watch)
    opened.page.on("dialog", dismiss)
    opened.page.on("pageerror", lambda error: opened.problems.append(f"error: {error}"))
    opened.page.on(
        "console",
        lambda line: opened.problems.append(f"console: {line.text}") if line.type in ("error", "warning") else None,
    )
    opened.open()
    yield opened
    problems = opened.problems
    context.close()
    assert problems == []
