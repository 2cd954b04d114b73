"""The pages of the docs, taken apart: code blocks, headings, links."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")


def all_pages() -> list[Path]:
    """Every page, the generated ones included."""
    return sorted(DOCS.rglob("*.md"))


def name_of(page: Path) -> str:
    """Path below the docs, for the names of tests."""
    return page.relative_to(DOCS).as_posix()


def code_blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks in a language, in order."""
    return [match["code"] for match in _FENCE.finditer(_text(page)) if match["language"] == language]


def links(page: Path) -> list[str]:
    """Where the page's links lead, as written, code left out."""
    prose = re.sub(r"\$?`[^`\n]+`\$?", "code", _FENCE.sub("", _text(page)))
    return [match["target"] for match in _LINK.finditer(prose)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", _text(page)), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")
