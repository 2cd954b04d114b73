"""What data sets have in common whose samples can be drawn again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch.utils.data import Dataset

from lightning_kd.data.indexed import Indexed, IndexedDraw


class ReplayableDataset(Dataset[Indexed], ABC):
    """A map-style data set with a fixed number of views of every sample.

    Epoch ``e`` shows view ``e % views``. Under :class:`~lightning_kd.Distillation` and
    :class:`~lightning_kd.DistillationModule` the epoch is set for you; elsewhere call :meth:`set_epoch` before each
    epoch. It is shared with DataLoader workers.

    Args:
        views: number of views.
        seed: what the views are drawn from.

    Raises:
        ValueError: if ``views`` is not positive.
    """

    def __init__(self, views: int, seed: int) -> None:
        if views < 1:
            raise ValueError(f"views, the number of random draws of a sample, must be at least 1, got {views}")
        self.views, self.seed = views, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A text that is another when data, transform or seed are.

        Raises:
            FingerprintError: if none can be taken.
        """

    @abstractmethod
    def draw(self, index: int, view: int) -> Any:
        """The sample, the same whenever and wherever it is drawn.

        Args:
            index: its position, from 0.
            view: which view, from 0.
        """

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> IndexedDraw:
        position, view = range(len(self))[index], self.epoch % self.views
        return IndexedDraw(self.draw(position, view), position, f"{view}.{position}")

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Show the views of this epoch, in this process and in workers.

        Args:
            epoch: from 0.
        """
        self._epoch.fill_(epoch)
