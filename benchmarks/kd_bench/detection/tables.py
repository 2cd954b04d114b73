"""One list of a COCO file as columns, with errors that say which entries are wrong and how."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_bench.errors import UserError

_SHOWN = 3


def first_of(values: Sequence[object]) -> str:
    """The first few, for an error.

    >>> first_of([4, 5, 6, 7])
    '4, 5, 6 …'
    """
    return ", ".join(map(str, values[:_SHOWN])) + (" …" if len(values) > _SHOWN else "")


class Table:
    """Entries of ``images``, ``annotations`` or ``categories``.

    A quick check looks at whole columns, since COCO has 860,000 annotations; only where it fails is the entry that is
    to blame looked for.

    Args:
        path: the file, for errors.
        name: of the list.
        entries: of the list.
    """

    def __init__(self, path: Path, name: str, entries: list[Any]) -> None:
        self.path, self.name, self.entries = path, name, entries

    def column(self, key: str, kind: type | tuple[type, ...], wanted: str) -> list[Any]:
        """The values of a key, of which every entry has one of the right type.

        Args:
            key: the key.
            kind: the type; ``bool`` is not taken for ``int``.
            wanted: the type in words.

        Raises:
            UserError: if an entry lacks the key or its value has another type.
        """
        kinds = set(kind) if isinstance(kind, tuple) else {kind}
        try:
            values = [entry[key] for entry in self.entries]
        except (KeyError, TypeError, IndexError):
            values = [entry.get(key) if isinstance(entry, dict) else None for entry in self.entries]
        if not set(map(type, values)) <= kinds:
            position, value = next((place, value) for place, value in enumerate(values) if type(value) not in kinds)
            raise UserError(
                f"{self.path}: entry {position} of {self.name} (id {self._id(position)}) has {key} = {value!r}; "
                f"expected {wanted}. Correct it in the program that wrote the file."
            )
        return values

    def ids(self) -> npt.NDArray[np.int64]:
        """The column ``id``, which has nothing twice."""
        ids = self.integers("id")
        found, counts = np.unique(ids, return_counts=True)
        if len(found) < len(ids):
            twice = found[counts > 1].tolist()
            raise UserError(
                f"{self.path} has {len(twice):,} ids more than once in {self.name}: {first_of(twice)}. Every entry "
                "needs an id of its own; number them anew, or remove the copies."
            )
        return ids

    def integers(self, key: str) -> npt.NDArray[np.int64]:
        """A column of whole numbers."""
        values = self.column(key, int, "a whole number")
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError as error:
            large = [value for value in values if not -(2**63) <= value < 2**63]
            raise UserError(
                f"{self.path}: {self.name} has {key} = {first_of(large)}, too large for 64 bits. Number them anew."
            ) from error

    def positive(self, key: str) -> npt.NDArray[np.int64]:
        """A column of whole numbers above 0."""
        values = self.integers(key)
        self.check(values > 0, f"have a {key} that is not positive")
        return values

    def numbers(self, key: str) -> npt.NDArray[np.float64]:
        """A column of finite numbers, 0 or more."""
        values = np.array(self.column(key, (int, float), "a number"), dtype=np.float64)
        self.check(np.isfinite(values) & (values >= 0), f"have {key} below 0 or not finite")
        return values

    def flags(self, key: str) -> npt.NDArray[np.bool_]:
        """A column of 0 and 1, where a missing key is a 0."""
        values = [entry.get(key, 0) for entry in self.entries]
        self.check(np.array([value in (0, 1) for value in values], dtype=bool), f"have {key} other than 0 and 1")
        return np.array(values, dtype=bool)

    def boxes(self, key: str) -> npt.NDArray[np.float64]:
        """A column of ``[x, y, width, height]`` with width and height of 0 or more, as ``(M, 4)``."""
        values = self.column(key, list, "a list [x, y, width, height]")
        flat = list(chain.from_iterable(values))
        if not set(map(len, values)) <= {4} or not set(map(type, flat)) <= {int, float}:
            fine = [len(value) == 4 and all(type(number) in (int, float) for number in value) for value in values]
            self.check(np.array(fine), f"have a {key} that is not four numbers")
        boxes = np.array(flat, dtype=np.float64).reshape(-1, 4)
        self.check(np.isfinite(boxes).all(axis=1), f"have a {key} that is not finite")
        self.check((boxes[:, 2:] >= 0).all(axis=1), f"have a {key} of negative width or height")
        return boxes

    def check(self, fine: Any, problem: str) -> None:
        """Refuse entries.

        Args:
            fine: whether each entry is as it should be, ``(N,)``.
            problem: what the others are or do.

        Raises:
            UserError: if there are others.
        """
        if not fine.all():
            bad = [self._id(position) for position in np.flatnonzero(~fine)[: _SHOWN + 1].tolist()]
            raise UserError(
                f"{self.path}: {int((~fine).sum()):,} of {len(fine):,} {self.name} {problem}; their ids are "
                f"{first_of(bad)}. Correct or remove them in the program that wrote the file."
            )

    def _id(self, position: int) -> object:
        entry = self.entries[position]
        return entry.get("id", "missing") if isinstance(entry, dict) else "missing"
