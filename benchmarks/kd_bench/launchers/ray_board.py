"""Where the tasks of a Ray cluster say how far they are; imports little, as it is a process of its own."""

from __future__ import annotations


class Board:
    """An actor that keeps the latest state of every item until the driver has taken it."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, str, int], str] = {}

    def put(self, key: tuple[str, str, int], state: str) -> None:
        """Note a state.

        Args:
            key: of the item.
            state: a :class:`kd_bench.state.ItemState` as JSON.
        """
        self._states[key] = state

    def take(self) -> dict[tuple[str, str, int], str]:
        """All states that are new since the last call."""
        states, self._states = self._states, {}
        return states
