"""The batch that a ``training_step`` receives, in whichever way it receives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_kd.data import Indexed, IndexedDraw


class ReceivedBatch:
    """Notes the batch of the present step.

    Attributes:
        sample: the batch as the user's ``training_step`` sees it.
        keys: which draws the samples are, where they can be drawn again; see :class:`~lightning_kd.data.IndexedDraw`.
        index: the samples' indices, ``(B,)``, where the data set is wrapped in :class:`~lightning_kd.data.WithIndex`.
    """

    def __init__(self) -> None:
        self.sample: Any = None
        self.index: Tensor | None = None
        self.keys: Sequence[str] = ()

    def receive(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Note the batch in the arguments of ``training_step``; hand them on without the indices."""
        name = None if args else next(iter(kwargs))
        given = args[0] if name is None else kwargs[name]
        passed = _Watched(given, self._note) if isinstance(given, Iterator) else self._note(given)
        return ((passed, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: passed})

    def clear(self) -> None:
        """Let go of the tensors."""
        self.sample = self.index = None
        self.keys = ()

    def _note(self, batch: Any) -> Any:
        self.index, self.keys = None, ()
        if isinstance(batch, Indexed):
            if isinstance(batch, IndexedDraw):
                self.keys = [batch.key] if isinstance(batch.key, str) else batch.key
            indices, batch = batch.index, batch.sample
            self.index = torch.as_tensor(indices)
        self.sample = batch
        return batch


class _Watched(Iterator[Any]):
    """A ``dataloader_iter`` that notes the batches drawn from it."""

    def __init__(self, iterator: Any, note: Callable[[Any], Any]) -> None:
        self._iterator, self._note = iterator, note

    def __next__(self) -> Any:
        batch, *rest = next(self._iterator)
        return (self._note(batch), *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)
