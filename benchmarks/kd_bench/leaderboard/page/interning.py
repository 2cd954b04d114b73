"""Values that many rows share, stored once on the page."""

from __future__ import annotations

from collections.abc import Hashable


class Pool:
    """Values in the order in which they were first seen.

    Attributes:
        values: what is stored: text, and tuples of what JSON can hold.
    """

    def __init__(self) -> None:
        self.values: list[Hashable] = []
        self._places: dict[Hashable, int] = {}

    def place(self, value: Hashable) -> int:
        """Where a value is in :attr:`values`; it is added if it is new."""
        place = self._places.setdefault(value, len(self.values))
        if place == len(self.values):
            self.values.append(value)
        return place
