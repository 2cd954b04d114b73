"""Colours that tell classes apart."""

from __future__ import annotations

import colorsys

_GOLDEN = 0.618033988749895


def colour(label: int) -> tuple[int, int, int]:
    """A bright colour; those of neighbouring labels differ most.

    Args:
        label: 0 or more.

    >>> colour(0)
    (255, 76, 76)
    """
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.7, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)
