"""Pictures with several handwritten digits at different places and sizes, composed from scikit-learn's bundled ones.

Digits partly cover each other. Between them lie lines, rings, frames and pieces of digits, on an uneven background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from kd_bench.detection.raster import Floats, Integers, disc, frame, noise, resize, stroke
from kd_bench.recipe import Fraction, Spec, Whole

SPLITS = ("train", "validation", "test")
_INK = 16
_VISIBLE = 0.3
_TRIES = 40


class SceneSettings(Spec):
    """How scenes look and how many there are.

    Attributes:
        seed: determines everything.
        height: of a scene, in pixels.
        width: of a scene, in pixels.
        train: number of scenes to train on.
        validation: number of scenes to choose settings by.
        test: number of scenes to test on.
        validation_fraction: share of the 1,797 digits that are seen in validation scenes only.
        test_fraction: share of the digits that are seen in test scenes only.
        most: the most digits in a scene; the fewest is one.
        smallest: height of the smallest digits, blank edges included, in pixels.
        largest: height of the largest digits.
        overlap: the most of the smaller of two boxes that the other may cover.
        clutter: the most shapes in a scene that are no digits.
    """

    seed: int = 0
    height: Whole = 96
    width: Whole = 128
    train: Whole = 800
    validation: Whole = 200
    test: Whole = 400
    validation_fraction: Fraction = 0.15
    test_fraction: Fraction = 0.25
    most: Whole = 8
    smallest: Annotated[int, Field(ge=8)] = 14
    largest: Whole = 48
    overlap: Fraction = 0.3
    clutter: Annotated[int, Field(ge=0)] = 8

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.smallest <= self.largest <= min(self.height, self.width) // 2:
            raise ValueError("largest must lie between smallest and half of the shorter side")
        if not 0 < self.validation_fraction < 1 - self.test_fraction < 1:
            raise ValueError("validation_fraction and test_fraction must leave digits for all three splits")
        return self

    def count(self, split: str) -> int:
        """Number of scenes in a split."""
        return int(getattr(self, split))


@dataclass(frozen=True)
class Scene:
    """A picture and its digits.

    Attributes:
        pixels: ``(height, width, 3)``.
        boxes: ``(G, 4)`` as ``x, y, width, height`` in pixels, tight around the ink of each digit, covered or not.
        digits: which digit each is, ``(G,)``.
        sources: which of the bundled images each was made of, ``(G,)``.
    """

    pixels: npt.NDArray[np.uint8]
    boxes: Integers
    digits: Integers
    sources: Integers


def split_digits(settings: SceneSettings) -> Mapping[str, Integers]:
    """Which of the bundled images belong to which split; each to one only, every digit in the same proportions."""
    _, labels = _bundle()
    random = np.random.RandomState([settings.seed, 1])
    parts: dict[str, list[Integers]] = {split: [] for split in SPLITS}
    for digit in range(10):
        members = random.permutation(np.flatnonzero(labels == digit))
        validation = round(settings.validation_fraction * len(members))
        test = round(settings.test_fraction * len(members))
        parts["validation"].append(members[:validation])
        parts["test"].append(members[validation : validation + test])
        parts["train"].append(members[validation + test :])
    return {split: np.sort(np.concatenate(part)).astype(np.int64) for split, part in parts.items()}


def compose(settings: SceneSettings, split: str, number: int, sources: Integers) -> Scene:
    """Make one scene; which depends on the arguments alone.

    Args:
        settings: how scenes look.
        split: one of :data:`SPLITS`.
        number: of the scene in its split.
        sources: the bundled images to choose from; see :func:`split_digits`.
    """
    # the stream of numbers of this generator does not change with NumPy's version
    random = np.random.RandomState([settings.seed, 2 + SPLITS.index(split), number])
    canvas = _background(random, settings)
    for _ in range(random.randint(settings.clutter // 2, settings.clutter + 1)):
        _add_clutter(canvas, random, settings, sources)
    boxes: list[tuple[int, int, int, int]] = []
    chosen: list[int] = []
    for _ in range(random.randint(1, settings.most + 1)):
        source = int(sources[random.randint(len(sources))])
        strength = _digit(random, settings, source)
        place = _find_place(random, settings, strength, boxes)
        if place is not None:
            x, y, box = place
            _ink(canvas[y : y + strength.shape[0], x : x + strength.shape[1]], strength, random)
            boxes.append(box)
            chosen.append(source)
    canvas += random.randint(-7, 8, canvas.shape)
    used = np.array(chosen, dtype=np.int64)
    return Scene(
        pixels=np.clip(np.rint(canvas), 0, 255).astype(np.uint8),
        boxes=np.array(boxes, dtype=np.int64),
        digits=_bundle()[1][used],
        sources=used,
    )


@cache
def _bundle() -> tuple[Integers, Integers]:
    from sklearn.datasets import load_digits

    bundle: Any = load_digits()
    return bundle.images.astype(np.int64), bundle.target.astype(np.int64)


def _background(random: np.random.RandomState, settings: SceneSettings) -> Floats:
    height, width = settings.height, settings.width
    shade = (
        noise(random, height, width, 2, 25) + noise(random, height, width, 6, 14) + noise(random, height, width, 24, 9)
    )
    tint = noise(random, height, width, 3, 12)
    colour = random.randint(60, 196) + random.randint(-20, 21, 3)
    canvas = shade[:, :, None] + colour
    canvas[:, :, 0] += tint
    canvas[:, :, 2] -= tint
    return np.asarray(canvas, dtype=np.float64)


def _add_clutter(canvas: Floats, random: np.random.RandomState, settings: SceneSettings, sources: Integers) -> None:
    height, width = settings.height, settings.width
    x, y, kind = random.randint(width), random.randint(height), random.randint(4)
    size, thickness = random.randint(6, 30), random.randint(1, 5)
    if kind == 0:
        mask = disc(height, width, x, y, size // 2, thickness)
    elif kind == 1:
        mask = frame(height, width, x, y, (size, random.randint(6, 30)), thickness)
    elif kind == 2:
        end = x + random.randint(-30, 31), y + random.randint(-30, 31)
        mask = stroke(height, width, (x, y), end, thickness)
    else:  # a quarter of a digit looks like ink but is none
        corner = _bundle()[0][sources[random.randint(len(sources))]]
        corner = corner[random.randint(5) :, random.randint(5) :][:4, :4]
        piece = resize(corner, size, size) / _INK
        patch = canvas[y : y + size, x : x + size]
        _ink(patch, piece[: patch.shape[0], : patch.shape[1]], random)
        return
    _ink(canvas, mask.astype(np.float64), random)


def _digit(random: np.random.RandomState, settings: SceneSettings, source: int) -> Floats:
    """How much ink there is at each pixel, 0 to 1."""
    height = random.randint(settings.smallest, settings.largest + 1)
    width = max(2, height * random.randint(70, 116) // 100)
    return np.minimum(1.0, resize(_bundle()[0][source], height, width) / _INK * 1.25)


def _find_place(
    random: np.random.RandomState,
    settings: SceneSettings,
    strength: Floats,
    others: list[tuple[int, int, int, int]],
) -> tuple[int, int, tuple[int, int, int, int]] | None:
    """The corner of a digit's image, and the box of its ink; ``None`` where there is no room."""
    rows, columns = (np.flatnonzero((strength > _VISIBLE).any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    for _ in range(_TRIES):
        x = random.randint(settings.width - strength.shape[1] + 1)
        y = random.randint(settings.height - strength.shape[0] + 1)
        box = x + left, y + top, width, height
        if all(_covered(box, other) <= settings.overlap for other in others):
            return x, y, box
    return None


def _covered(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Share of the smaller box that both have in common."""
    wide = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    high = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(0, wide) * max(0, high) / min(box[2] * box[3], other[2] * other[3])


def _ink(patch: Floats, strength: Floats, random: np.random.RandomState) -> None:
    """Draw into a part of the canvas, darker or brighter than it is there."""
    level = int(patch.astype(np.int64).sum()) // patch.size
    contrast = random.randint(45, 131)
    darker = level > 165 or (level > 90 and random.randint(2) == 1)
    colour = level + (-contrast if darker else contrast) + random.randint(-25, 26, 3)
    patch += strength[:, :, None] * (colour - patch)
