"""Give the samples of any data set their index, for methods that remember samples (memory banks)."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset


class Indexed(NamedTuple):
    """A sample and its position in the data set; after collation, a batch and the positions ``(B,)``.

    The engine takes it apart: ``training_step`` receives ``sample`` as if the data set had not been wrapped, and a
    method finds the positions in ``exchange.index``.

    Attributes:
        sample: whatever the wrapped data set returns.
        index: position of the sample.
    """

    sample: Any
    index: int | Tensor  # type: ignore[assignment]  # shadows tuple.index on purpose


class WithIndex(Dataset[Indexed]):
    """A map-style data set whose items come with their index.

    Other attributes (``classes``, ``targets`` ...) are those of the wrapped data set. Split first, then wrap: the
    indices have to run from 0 to ``len(dataset) - 1``.

    Args:
        dataset: data set with ``__getitem__`` and ``__len__``; its own collate function, if it needs one, must be
            applied to the samples (``DataLoader(..., collate_fn=IndexedCollate(yours))``).

    Raises:
        TypeError: if the data set is iterable-style, so that its samples have no index.

    >>> WithIndex(["cat", "dog"])[1]
    Indexed(sample='dog', index=1)
    """

    def __init__(self, dataset: Any) -> None:
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        ):
            raise TypeError(
                f"WithIndex needs a map-style data set (with __getitem__ and __len__), got {type(dataset).__name__}; "
                "samples of a stream have no index, so methods with a memory bank cannot be used with it"
            )
        self.dataset = dataset

    def __getitem__(self, index: int) -> Indexed:
        return Indexed(self.dataset[index], range(len(self))[index])

    def __len__(self) -> int:
        return len(cast(Sized, self.dataset))

    def __getattr__(self, name: str) -> Any:
        # before __init__ has run (unpickling, copying) there is nothing to delegate to
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.dataset, name)

    def __repr__(self) -> str:
        return f"WithIndex({self.dataset!r})"


class IndexedCollate:
    """Apply a collate function of one's own to the samples of a :class:`WithIndex` data set.

    The default collate function needs no help.

    Args:
        collate: takes a list of samples and returns a batch.
    """

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, items: list[Indexed]) -> Indexed:
        """Collate samples and indices."""
        return Indexed(self.collate([item.sample for item in items]), torch.tensor([item.index for item in items]))
