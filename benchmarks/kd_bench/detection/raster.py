"""Drawing by whole numbers, so that a picture is the same on every machine: resizing, noise, simple shapes.

Nothing here calls functions whose last digits depend on the processor or on the version of a library.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def resize(values: Integers, height: int, width: int) -> Floats:
    """Bilinear interpolation, with the centres of pixels half a pixel from the edges.

    Args:
        values: ``(h, w)``.
        height: of the result.
        width: of the result.

    Returns:
        ``(height, width)``; exact up to one division.
    """
    top, bottom, down = _weights(values.shape[0], height)
    left, right, along = _weights(values.shape[1], width)
    whole_down, whole_along = 2 * height, 2 * width
    rows = values[top] * (whole_down - down)[:, None] + values[bottom] * down[:, None]
    total = rows[:, left] * (whole_along - along) + rows[:, right] * along
    return np.asarray(total / (whole_down * whole_along))


def _weights(size: int, wanted: int) -> tuple[Integers, Integers, Integers]:
    """For each of ``wanted`` positions two neighbours among ``size``, and the second's weight of ``2 * wanted``."""
    position = np.clip((2 * np.arange(wanted) + 1) * size - wanted, 0, 2 * wanted * (size - 1))
    first = position // (2 * wanted)
    return first, np.minimum(first + 1, size - 1), position - first * (2 * wanted)


def noise(random: np.random.RandomState, height: int, width: int, cells: int, strength: int) -> Floats:
    """Smooth noise between ``-strength`` and ``strength``.

    Args:
        random: source of randomness.
        height: in pixels.
        width: in pixels.
        cells: number of random values along the height; the more, the finer.
        strength: largest value.
    """
    return resize(random.randint(-strength, strength + 1, (cells, cells * width // height)), height, width)


def disc(height: int, width: int, x: int, y: int, radius: int, thickness: int) -> Mask:
    """A ring of some thickness; a filled disc if it is as thick as its radius."""
    rows, columns = np.ogrid[:height, :width]
    squared = (rows - y) ** 2 + (columns - x) ** 2
    return np.asarray((squared <= radius**2) & (squared >= max(0, radius - thickness) ** 2))


def frame(height: int, width: int, x: int, y: int, size: tuple[int, int], thickness: int) -> Mask:
    """The outline of a rectangle with its corner at ``x, y`` and of a ``size`` of (height, width)."""
    mask = np.zeros((height, width), dtype=bool)
    bottom, right = y + size[0], x + size[1]
    mask[max(0, y) : max(0, bottom), max(0, x) : max(0, right)] = True
    mask[max(0, y + thickness) : max(0, bottom - thickness), max(0, x + thickness) : max(0, right - thickness)] = False
    return mask


def stroke(height: int, width: int, start: tuple[int, int], end: tuple[int, int], thickness: int) -> Mask:
    """A straight line between two points ``(x, y)``."""
    rows, columns = np.ogrid[:height, :width]
    along = end[0] - start[0], end[1] - start[1]
    length = along[0] ** 2 + along[1] ** 2
    x, y = columns - start[0], rows - start[1]
    distance, progress = x * along[1] - y * along[0], x * along[0] + y * along[1]
    return np.asarray((4 * distance**2 <= thickness**2 * length) & (progress >= 0) & (progress <= length))
