"""Debian's Chromium, driven by Playwright, for the tests and timings of the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MISSING = (
    "no Chromium was found: install Debian's (`apt-get install chromium`), or name an executable in CHROMIUM; and "
    "Playwright (`pip install playwright`), whose own browsers are not needed"
)

_running: list[Browser] = []


def find_chromium() -> str | None:
    """Path of the executable, or ``None``."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@contextmanager
def chromium() -> Iterator[Browser | None]:
    """A headless browser that is closed when the outermost block ends, or ``None`` where there is none.

    Playwright can be started once in a process; a block inside another has the same browser.
    """
    if _running:
        yield _running[0]
        return
    path = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        path = None
    if path is None:
        yield None
        return
    with sync_playwright() as playwright:
        # its sandbox does not work for root, as whom containers run; the pages are our own and load nothing
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        _running.append(browser)
        try:
            yield browser
        finally:
            _running.clear()
            browser.close()
