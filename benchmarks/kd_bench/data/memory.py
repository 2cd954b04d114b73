"""A data set that is held in memory as standardized tensors: what its loaders are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from kd_bench.data.base import ClassificationData
from kd_bench.data.batches import Augment, OrderedDraws, TensorBatches, batch_loader

EVAL_BATCH = 1000


@dataclass(frozen=True)
class SplitTensors:
    """A data set in its splits.

    Attributes:
        images: ``train``, ``validation`` and ``test`` → images ``(N, C, H, W)``, standardized.
        labels: the same → labels ``(N,)``.
        background: value outside the images.
        checksum: sha256 over pixels, labels and the indices of the splits.
    """

    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    background: float
    checksum: str


class MemoryData(ClassificationData):
    """Loaders over :class:`SplitTensors`.

    Args:
        batch_size: samples in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of the augmentation.
        split: the data.
        augment: the augmentation.
    """

    def __init__(
        self, batch_size: int, seed: int, augmentation: Mapping[str, Any], split: SplitTensors, augment: Augment
    ) -> None:
        super().__init__(batch_size, seed, augmentation)
        self._split, self._augment = split, augment

    def checksum(self) -> str:
        """sha256 over pixels, labels and the indices of the splits."""
        return self._split.checksum

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled and augmented, as :attr:`needs` says."""
        dataset = self._training_split()
        if self.needs.held_out:
            dataset, _ = dataset.split(self.needs.held_out, self.seed)
        return batch_loader(dataset, self.shuffled_draws(len(dataset)))

    def held_out_dataloader(self) -> DataLoader[Any]:
        """The training samples that :meth:`train_dataloader` leaves out, one by one and not augmented."""
        _, held_out = self._training_split().split(self.needs.held_out, self.seed)
        return DataLoader(held_out, batch_size=self.batch_size)

    def eval_dataloader(self, split: str) -> DataLoader[Any]:
        """The split ``"validation"`` or ``"test"``."""
        dataset = TensorBatches(self._split.images[split], self._split.labels[split])
        return batch_loader(dataset, OrderedDraws(len(dataset), EVAL_BATCH))

    def _training_split(self) -> TensorBatches:
        images, labels = self._split.images["train"], self._split.labels["train"]
        return TensorBatches(images, labels, self._augment, indexed=self.needs.indexed)
