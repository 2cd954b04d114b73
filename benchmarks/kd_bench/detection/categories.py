"""The ways to number the same classes: COCO's ids with their gaps, labels without gaps, and those of torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from kd_bench.names import unknown

Integers = npt.NDArray[np.int64]

Numbering = Literal["contiguous", "ids"]
"""How a torchvision detector numbers the classes: ``contiguous`` is label + 1; ``ids`` are the ids of the categories,
as in torchvision's public weights for COCO, whose 91 outputs include the gaps. 0 is the background in both."""


@dataclass(frozen=True)
class Categories:
    """The classes of a data set; the label of a class is its position here.

    Attributes:
        ids: of the categories in COCO's files, ascending, 1 or more.
        names: the same for their names.

    >>> animals = Categories(ids=(16, 17, 25), names=("bird", "cat", "giraffe"))
    >>> animals.labels(np.array([25, 16])).tolist(), animals.for_torchvision("ids").tolist()
    ([2, 0], [16, 17, 25])
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self, ids: Integers) -> Integers:
        """Labels, 0 to K-1, of category ids, which have to be known."""
        return np.searchsorted(np.array(self.ids, dtype=np.int64), ids).astype(np.int64)

    def for_torchvision(self, numbering: Numbering) -> Integers:
        """What a torchvision detector calls the classes, ``(K,)``.

        Raises:
            UserError: if there is no such numbering.
        """
        check_numbering(numbering)
        return np.array(self.ids if numbering == "ids" else range(1, len(self) + 1), dtype=np.int64)

    def torchvision_classes(self, numbering: Numbering) -> int:
        """``num_classes`` of a torchvision detector, with the background."""
        return int(self.for_torchvision(numbering)[-1]) + 1

    def from_torchvision(self, found: Integers, numbering: Numbering) -> Integers:
        """Labels, 0 to K-1, of what a torchvision detector found; -1 for the background and for gaps.

        Args:
            found: any shape.
            numbering: of the detector.
        """
        table = np.full(self.torchvision_classes(numbering), -1, dtype=np.int64)
        table[self.for_torchvision(numbering)] = np.arange(len(self))
        within = (found >= 0) & (found < len(table))
        return np.where(within, table[np.where(within, found, 0)], -1)


def check_numbering(numbering: str) -> None:
    """Refuse what is no :data:`Numbering`.

    Raises:
        UserError: if it is none.
    """
    if numbering not in get_args(Numbering):
        raise unknown("numbering of classes", numbering, get_args(Numbering))
