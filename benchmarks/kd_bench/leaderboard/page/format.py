"""How numbers and settings are written on the page."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import JsonValue

MISSING = "\N{EN DASH}"


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
