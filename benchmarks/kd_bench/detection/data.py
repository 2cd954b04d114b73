"""What the data module of a detection benchmark offers beyond Lightning's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import DataLoader

from kd_bench.data.base import BenchmarkData
from kd_bench.data.batches import OrderedDraws, worker_loader
from kd_bench.data.settings import parse_settings
from kd_bench.data.workers import default_workers
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.categories import Categories, Numbering, check_numbering
from kd_bench.detection.dataset import DetectionAugmentation, DetectionImages
from kd_bench.detection.loaders import GroupedDraws
from kd_bench.errors import UserError


class DetectionData(BenchmarkData):
    """Images with boxes in fixed splits; a batch is a list of images and a list of targets.

    Images are ``(3, H, W)`` in [0, 1], of their original size. Targets are described at
    :data:`kd_bench.detection.dataset.Target`.

    Args:
        batch_size: images in a training batch.
        seed: see :class:`~kd_bench.data.base.BenchmarkData`.
        augmentation: settings of :class:`~kd_bench.detection.dataset.DetectionAugmentation`.
        numbering: of the classes in targets.
        ratio_factor: see :class:`~kd_bench.detection.loaders.GroupedDraws`.

    Attributes:
        title: what the data is called.
        scale: lengths to which detectors bring the shorter side (in training one is drawn, in tests the last is taken),
            and the most that the longer side may have; ``None`` for the detectors' own.
        eval_batch: images in a batch that is evaluated. 1 where sizes differ: padding would make detections depend on
            which images share a batch.
    """

    task = "detection"
    title: ClassVar[str]
    eval_batch: ClassVar[int] = 1
    scale: tuple[tuple[int, ...], int] | None = None

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        numbering: Numbering,
        ratio_factor: int,
    ) -> None:
        super().__init__(batch_size, seed)
        check_numbering(numbering)
        self.augmentation = parse_settings(DetectionAugmentation, augmentation)
        self.numbering, self.ratio_factor = numbering, ratio_factor

    @property
    def categories(self) -> Categories:
        """The classes."""
        return self.truth("test").categories

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
        draws = self.divided(GroupedDraws(images.ratios, self.batch_size, self.seed, self.ratio_factor))
        return worker_loader(images, draws, self._workers)

    def eval_dataloader(self, split: str) -> DataLoader[Any]:
        """The split ``"validation"`` or ``"test"``, in fixed order, not augmented; all of it, on every rank.

        Raises:
            UserError: if there is no validation split.
        """
        images = self.images(split)
        return worker_loader(images, OrderedDraws(len(images), self.eval_batch), self._workers)

    def held_out_dataloader(self) -> DataLoader[Any]:
        """There is none: no training split of detectors holds images out.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.title} holds no training images out; choose a method that does not ask for them")

    def splits(self) -> tuple[str, ...]:
        """Only the validation split, if there is one: to test detectors takes long, and is done once, at the end."""
        return ("validation",) if self.has_validation else ()

    @property
    def _workers(self) -> int:
        return default_workers() if self.loader_workers is None else self.loader_workers
