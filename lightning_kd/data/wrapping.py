"""Data sets around another data set, whose length and attributes they have."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, cast


class Wrapping:
    """A mix-in: length and further attributes are those of ``dataset``.

    Attributes:
        dataset: what is wrapped.
    """

    dataset: Any

    def __len__(self) -> int:
        return len(cast(Sized, self.dataset))

    def __getattr__(self, name: str) -> Any:
        # before __init__ has run (unpickling, copying) there is nothing to delegate to
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.dataset, name)
