"""Give the samples of any data set their index, for methods that remember samples (memory banks)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from lightning_kd.data.wrapping import Wrapping


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


class IndexedDraw(Indexed):
    """A sample that can be drawn again, its position, and which draw it is; a batch likewise.

    Args:
        sample: whatever the wrapped data set returns.
        index: position of the sample.
        key: the draw, ``"view.index"``; in a batch one text a sample. Texts stay on the host, where they are looked up,
            when the batch moves to a device.
    """

    _fields = ("sample", "index", "key")  # type: ignore[assignment]  # one more than the class it derives from

    def __new__(cls, sample: Any, index: int | Tensor, key: str | Sequence[str]) -> IndexedDraw:
        """A tuple of three."""
        return tuple.__new__(cls, (sample, index, key))

    @property
    def key(self) -> str | Sequence[str]:
        """The draw, or in a batch the draws."""
        found: str | Sequence[str] = tuple.__getitem__(self, 2)
        return found

    def __repr__(self) -> str:
        return f"IndexedDraw(sample={self.sample!r}, index={self.index!r}, key={self.key!r})"


class WithIndex(Wrapping, Dataset[Indexed]):
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

    def __repr__(self) -> str:
        return f"WithIndex({self.dataset!r})"


class IndexedCollate:
    """Apply a collate function of one's own to the samples of a data set with indices, such as :class:`WithIndex`.

    The default collate function needs no help.

    Args:
        collate: takes a list of samples and returns a batch.
    """

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, items: list[Indexed]) -> Indexed:
        """Collate samples and indices."""
        samples, index = self.collate([item.sample for item in items]), torch.tensor([item.index for item in items])
        keys = [str(item.key) for item in items if isinstance(item, IndexedDraw)]
        return IndexedDraw(samples, index, keys) if keys else Indexed(samples, index)
