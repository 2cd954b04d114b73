"""Problems are one harmless line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.submission.problem import Problem, RefusedError, is_invisible, shown


@given(
    text=st.text() | st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zs"])),
    limit=st.integers(1, 50),
)
def test_shown_text_is_one_bounded_line_of_visible_characters(text: str, limit: int) -> None:
    line = shown(text, limit)
    assert not any(map(is_invisible, line))
    assert len(line.splitlines()) <= 1
    assert len(line) <= 10 * limit + 1
    assert shown(line, limit=len(line)) == line


@given(text=st.text(alphabet=":#[]ab\n"))
def test_shown_text_gives_no_orders_to_github(text: str) -> None:
    line = shown(text)
    assert "::" not in line
    assert "##[" not in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, Müller 蒸馏", "plain text, Müller 蒸馏"),
        ("a\nb\tc", r"a\x0ab\x09c"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\u202eabc", r"\u202eabc"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("::error::x", r":\x3aerror:\x3ax"),
        ("x" * 130, "x" * 120 + "…"),
        (7, "7"),
    ],
)
def test_what_is_shown(text: object, expected: str) -> None:
    assert shown(text) == expected


def test_a_problem_is_harmless_whatever_it_is_made_of() -> None:
    problem = Problem("a\nb", "rule", "c\x1b[0md" + "e" * 5000)
    assert str(problem).startswith(r"rule: a\x0ab: c\x1b[0md")
    assert len(str(problem)) < 1100


def test_a_refusal_becomes_a_problem_at_a_place() -> None:
    assert RefusedError("size", "is large").at("x/y") == Problem("x/y", "size", "is large")
