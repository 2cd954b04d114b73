"""What the data module of a detection benchmark offers beyond Lightning's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import lightning as L
from torch.utils.data import DataLoader

from kd_bench.data.batches import OrderedDraws, check_divisible, worker_loader
from kd_bench.data.settings import parse_settings
from kd_bench.data.workers import default_workers
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.categories import Categories, Numbering, check_numbering
from kd_bench.detection.dataset import DetectionAugmentation, DetectionImages
from kd_bench.detection.loaders import GroupedDraws


class DetectionData(L.LightningDataModule, ABC):
    """Images with boxes in fixed splits; a batch is a list of images and a list of targets.

    Images are ``(3, H, W)`` in [0, 1], of their original size. Targets are described at
    :data:`kd_bench.detection.dataset.Target`.

    Args:
        batch_size: images in a training batch.
        seed: determines the order and the augmentation of the training data, together with the epoch. Nothing else
            may: not the global random state, and not who else has read from the loader.
        augmentation: settings of :class:`~kd_bench.detection.dataset.DetectionAugmentation`.
        numbering: of the classes in targets.
        ratio_factor: see :class:`~kd_bench.detection.loaders.GroupedDraws`.

    Attributes:
        title: what the data is called.
        has_parts: whether a parameter ``part`` chooses between ``"final"``, all of the training set and no validation
            split, and ``"tuning"``, a part of it, where test means the rest of it.
        eval_batch: images in a batch that is evaluated. 1 where sizes differ: padding would make detections depend on
            which images share a batch.
        loader_workers: processes that make batches; ``None`` for what suits the data. The batches do not depend on it.
        rank: which of the processes that train together this is; see :meth:`set_ranks`.
        world: how many there are.
    """

    title: ClassVar[str]
    has_parts: ClassVar[bool] = False
    eval_batch: ClassVar[int] = 1

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        numbering: Numbering,
        ratio_factor: int,
    ) -> None:
        super().__init__()
        check_numbering(numbering)
        self.batch_size, self.seed = batch_size, seed
        self.augmentation = parse_settings(DetectionAugmentation, augmentation)
        self.numbering, self.ratio_factor = numbering, ratio_factor
        self.loader_workers: int | None = None
        self.rank, self.world = 0, 1
        self._draws: WeakSet[GroupedDraws] = WeakSet()

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return True

    @property
    def categories(self) -> Categories:
        """The classes."""
        return self.truth("test").categories

    @abstractmethod
    def checksum(self) -> str:
        """sha256 over the annotations and the splits."""

    @abstractmethod
    def truth(self, split: str) -> Annotations:
        """What is to be found in ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            UserError: if there is no such split.
        """

    @abstractmethod
    def folder(self, split: str) -> Path:
        """The folder of the images of a split."""

    def images(self, split: str) -> DetectionImages:
        """The images of a split; those to train on are augmented, and have boxes."""
        train = split == "train"
        return DetectionImages(
            self.folder(split),
            self.truth(split),
            self.numbering,
            augmentation=self.augmentation if train else None,
            seed=self.seed,
            only_with_boxes=train,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled and augmented."""
        images = self.images("train")
        draws = GroupedDraws(images.ratios, self.batch_size, self.seed, self.ratio_factor)
        draws.set_ranks(self.rank, self.world)
        self._draws.add(draws)
        return worker_loader(images, draws, self._workers)

    def eval_dataloader(self, split: str) -> DataLoader[Any]:
        """The split ``"validation"`` or ``"test"``, in fixed order, not augmented; all of it, on every rank.

        Raises:
            UserError: if there is no validation split.
        """
        images = self.images(split)
        return worker_loader(images, OrderedDraws(len(images), self.eval_batch), self._workers)

    def splits(self) -> tuple[str, ...]:
        """What is evaluated after every epoch; none of it steers the training."""
        return ("validation", "test") if self.has_validation else ("test",)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """This rank's share of the :meth:`splits`; together the ranks have every image once."""
        return [self._share(self.eval_dataloader(split)) for split in self.splits()]

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split, all of it on every rank."""
        return self.eval_dataloader("test")

    def set_ranks(self, rank: int, world: int) -> None:
        """Divide batches among processes that train together.

        Every rank gets an equal part of each training batch. Training loaders that are there already divide from their
        next epoch on; other loaders have to be made afterwards.

        Args:
            rank: number of this process.
            world: number of processes.

        Raises:
            UserError: if a batch cannot be divided equally.
        """
        check_divisible(self.batch_size, world, "batch")
        self.rank, self.world = rank, world
        for draws in self._draws:
            draws.set_ranks(rank, world)

    @property
    def _workers(self) -> int:
        return default_workers() if self.loader_workers is None else self.loader_workers

    def _share(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        if self.world > 1:
            draws: Any = loader.sampler
            draws.set_ranks(self.rank, self.world)
        return loader
