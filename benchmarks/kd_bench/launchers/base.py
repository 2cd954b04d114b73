"""What a launcher is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kd_bench.items import Item
from kd_bench.launchers.events import Failure, Listener


class Launcher(Protocol):
    """A way to get items done, somewhere."""

    def run(self, items: Sequence[Item], listener: Listener) -> list[Failure]:
        """Do all items. A failing item, or one that takes its process down, does not stop the others.

        After a failure that is fatal no further item is begun; those are neither finished nor failed.

        Args:
            items: what to do; started in this order.
            listener: told about every item.

        Returns:
            The items that could not be done.

        Raises:
            UserError: if the place where items are done cannot be used.
            KeyboardInterrupt: on Ctrl-C, after all that was running has been ended; finished items stay finished.
        """
        ...
