"""How numbers and settings are written on the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

MISSING = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        value: the exact number to sort by, or an empty string where there is none.
        text: the number as shown.
        margin: half the 95 % interval as shown, or an empty string.
    """

    value: str
    text: str
    margin: str = ""


def number_cell(value: float | None, digits: int, *, factor: float = 1.0, margin: float | None = None) -> Cell:
    """A cell for ``factor * value``, which may be missing, and half the width of its interval."""
    if value is None:
        return Cell("", MISSING)
    shown_margin = "" if margin is None else number(factor * margin, digits)
    return Cell(repr(value), number(factor * value, digits), shown_margin)


def number(value: float, digits: int) -> str:
    """A number with a typographic minus, a thousands separator, and no negative zero.

    >>> number(-1234.567, 1)
    '−1,234.6'
    >>> number(-0.001, 2)
    '0.00'
    """
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: float, digits: int = 2) -> str:
    """A fraction in percent."""
    return f"{number(100 * value, digits)} %"


def setting(value: JsonValue) -> str:
    """A hyper-parameter: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def seed_list(seeds: Sequence[int]) -> str:
    """Seeds as the command line takes them.

    Args:
        seeds: ascending, no duplicates.

    >>> seed_list([0, 1, 2, 3, 7])
    '0-3,7'
    """
    groups: list[list[int]] = []
    for seed in seeds:
        if groups and seed == groups[-1][-1] + 1:
            groups[-1].append(seed)
        else:
            groups.append([seed])
    return ",".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)
