"""Data that comes without a validation split: what its loaders are in either part."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kd_bench.data.base import ClassificationData
from kd_bench.data.batches import OrderedDraws, TensorBatches, worker_loader
from kd_bench.data.parts import TUNING, check_part, fixed_split, no_validation
from kd_bench.data.samples import SampleBatches
from kd_bench.data.workers import start_method


class PartedData(ClassificationData):
    """A training and a test set, of which a protocol uses one of two parts; see :mod:`kd_bench.data.parts`.

    Args:
        batch_size: samples in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of the augmentation.
        part: ``final`` or ``tuning``.
        split_seed: determines the parts.
        validation_fraction: share of the training set that ``tuning`` scores on.
        train_size: samples in the training set.

    Raises:
        UserError: if there is no such part, or the fraction leaves one side empty.
    """

    title: ClassVar[str]
    has_parts = True

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        part: str,
        split_seed: int,
        validation_fraction: float,
        train_size: int,
    ) -> None:
        super().__init__(batch_size, seed, augmentation)
        self.part = check_part(part)
        self.parts = fixed_split(train_size, validation_fraction, split_seed)

    @property
    def has_validation(self) -> bool:
        """Only in the part ``tuning``."""
        return self.part == TUNING

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled and augmented, as :attr:`needs` says."""
        dataset = self._batches("train")
        if self.needs.held_out:
            dataset, _ = dataset.split(self.needs.held_out, self.seed)
        return worker_loader(dataset, self.shuffled_draws(len(dataset)), self._workers)

    def held_out_dataloader(self) -> DataLoader[Any]:
        """The training samples that :meth:`train_dataloader` leaves out, one by one and not augmented."""
        _, held_out = self._batches("train").split(self.needs.held_out, self.seed)
        return DataLoader(
            held_out,
            batch_size=self.batch_size,
            num_workers=self._workers,
            multiprocessing_context=start_method(self._workers),
            generator=torch.Generator(),
        )

    def eval_dataloader(self, split: str) -> DataLoader[Any]:
        """The split ``"validation"`` or ``"test"``; in the part ``tuning`` both are the validation split."""
        if split == "validation" and not self.has_validation:
            raise no_validation(self.title)
        dataset = self._batches("validation" if self.has_validation else "test")
        return worker_loader(dataset, OrderedDraws(len(dataset), self._eval_batch), self._workers)

    def _positions(self, split: str, size: int) -> Tensor:
        """Which of the ``size`` samples of the underlying set belong to a split."""
        if not self.has_validation:
            return torch.arange(size)
        return torch.from_numpy(self.parts.train if split == "train" else self.parts.validation)

    @property
    def _workers(self) -> int:
        return self._usual_workers if self.loader_workers is None else self.loader_workers

    @property
    @abstractmethod
    def _usual_workers(self) -> int:
        """Processes that make batches unless asked otherwise."""

    @property
    @abstractmethod
    def _eval_batch(self) -> int:
        """Samples in a batch that is evaluated."""

    @abstractmethod
    def _batches(self, split: str) -> TensorBatches | SampleBatches:
        """The batches of ``train``, ``validation`` or ``test``."""
