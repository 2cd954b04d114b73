"""Untrusted text in Markdown: nothing in it becomes a link, a mention, a picture or HTML."""

from __future__ import annotations

import re

from kd_bench.submission.problem import shown

_LOOKALIKES = str.maketrans(
    {
        "@": "(at)",
        "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
        ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
        "[": "(",
        "]": ")",
        "!": ".",
        "#": "\N{NUMERO SIGN}",
        "&": "+",
        "\\": "\N{SET MINUS}",
        "`": "'",
        "|": "\N{DIVIDES}",
        "*": "\N{ASTERISK OPERATOR}",
        "~": "\N{TILDE OPERATOR}",
        "$": "\N{FULLWIDTH DOLLAR SIGN}",
    }
)
_LINKS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=GH)(?=-[0-9])", re.IGNORECASE)


def plain_text(text: object, limit: int = 600) -> str:
    """One line in which no character means anything to Markdown; what would is replaced by something like it.

    Args:
        text: anything.
        limit: longest result, about.

    >>> plain_text("@all see https://example.org, [x](y)!")
    '(at)all see https: //example.org, (x)(y).'
    """
    return _LINKS.sub(" ", shown(text, limit).translate(_LOOKALIKES))


def code(text: object, limit: int = 200) -> str:
    """The same as code within a line."""
    return f"`{plain_text(text, limit)}`"


def code_block(lines: list[str]) -> str:
    """Lines as a block of code, each as :func:`plain_text`."""
    return "\n".join(["```text", *map(plain_text, lines), "```"])


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
