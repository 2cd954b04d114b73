"""How reports write numbers."""

from __future__ import annotations

MISSING = "-"


def percent(value: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.93456)
    '93.46'
    """
    return f"{100 * value:.2f}"


def points(difference: float, half_width: float) -> str:
    """A difference of fractions in percentage points, with its interval.

    >>> points(0.0056, 0.0103)
    '+0.56 ± 1.03'
    """
    return f"{100 * difference:+.2f} ± {percent(half_width)}"


def share(value: float | None) -> str:
    """A share in whole percent, or a dash.

    >>> share(0.634), share(None)
    ('63 %', '-')
    """
    return MISSING if value is None else f"{round(100 * value)} %"


def times(value: float | None) -> str:
    """A ratio, or a dash.

    >>> times(1.4), times(None)
    ('1.40', '-')
    """
    return MISSING if value is None else f"{value:.2f}"
