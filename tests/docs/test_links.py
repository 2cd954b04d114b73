"""Every relative link of the docs and the README leads somewhere, and every page is reachable from the index."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import DOCS, all_pages, anchors, links, name_of

ROOT = DOCS.parent


def relative(page: Path) -> list[tuple[Path, str]]:
    """Targets within the repository, as file and anchor."""
    found = []
    for target in links(page):
        if not target.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = target.partition("#")
            found.append(((page.parent / path).resolve() if path else page, anchor))
    return found


@pytest.mark.parametrize(
    "page", [*all_pages(), ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_links_resolve(page: Path) -> None:
    for path, anchor in relative(page):
        assert path.exists(), f"{page}: {path} does not exist"
        assert path.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(path), f"{page}: {path.name} has no heading #{anchor}"


def test_every_page_can_be_reached_from_the_index() -> None:
    seen, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            waiting.extend(path for path, _ in relative(page) if path.suffix == ".md" and path.is_relative_to(DOCS))
    assert {name_of(page) for page in all_pages()} == {name_of(page) for page in seen}


def test_every_example_is_listed() -> None:
    listed = {path.name for path, _ in relative(DOCS / "examples.md")}
    assert listed >= {path.name for path in (ROOT / "examples").glob("*.py")}
