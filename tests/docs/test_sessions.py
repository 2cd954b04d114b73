"""Every Python session in the docs (``pycon``) prints what stands there."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from pages import DOCS, all_pages, code_blocks, name_of

WITH_SESSIONS = [page for page in all_pages() if code_blocks(page, "pycon")]


@pytest.mark.parametrize("page", WITH_SESSIONS, ids=name_of)
def test_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    session = "\n".join(code_blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(session, {}, name_of(page), str(page), 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_there_is_one() -> None:
    assert DOCS / "statistics.md" in WITH_SESSIONS
