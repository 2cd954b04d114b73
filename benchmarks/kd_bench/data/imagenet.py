"""ImageNet-1k of the Large Scale Visual Recognition Challenge 2012: 1.28 million photographs in a thousand classes.

Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, arXiv:1409.0575.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from kd_bench.data.encoded import EncodedImages
from kd_bench.data.image_folder import FolderImages
from kd_bench.data.parted import PartedData
from kd_bench.data.parts import FixedSplit
from kd_bench.data.places import DATA_VARIABLE, data_dir
from kd_bench.data.sample_transforms import Interpolation, Pixels
from kd_bench.data.samples import SampleBatches
from kd_bench.data.shards import ShardImages, find_shards
from kd_bench.data.views import SampleViews
from kd_bench.data.workers import default_workers
from kd_bench.errors import UserError

COUNTS = {"train": 1_281_167, "val": 50_000}
_EVAL_BATCH = 128


class ImageNet(PartedData):
    """ImageNet with its validation images as the test split; from a folder of images or shards, with equal results.

    In ``root`` are either ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``, or the shards that `lightning-kd bench
    shards` makes of them (preferred where there are both). It cannot be downloaded without an account.

    Args:
        batch_size: samples in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of :class:`~kd_bench.data.sample_transforms.SampleAugmentation`.
        part: ``final``: trained on all training images, scored on the validation images. ``tuning``: trained on a part
            of the training images and scored on the rest, which stands for the validation and the test split; the
            validation images are not used.
        split_seed: determines the parts.
        validation_fraction: share of the training images that ``tuning`` scores on.
        image_size: height and width of the images that networks see.
        eval_resize: what the shorter side of test images is resized to before their centre is cut out.
        eval_interpolation: of that resizing, ``bilinear`` or ``bicubic``.
        mean: of each channel, in units of the full range.
        std: standard deviation of each channel.
        root: where the images are; by default ``imagenet`` in :func:`~kd_bench.data.places.data_dir`.
        num_classes: number of classes.
        counts: number of images in ``train`` and ``val``.

    Raises:
        UserError: if the images are not there or not complete, or a setting makes no sense.
    """

    title = "ImageNet"

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        part: str = "final",
        split_seed: int = 0,
        validation_fraction: float = 0.04,
        image_size: int = 224,
        eval_resize: int = 256,
        eval_interpolation: Interpolation = "bilinear",
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        root: str | None = None,
        num_classes: int = 1000,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        all_counts = {**COUNTS, **(counts or {})}
        super().__init__(
            batch_size,
            seed,
            augmentation,
            part=part,
            split_seed=split_seed,
            validation_fraction=validation_fraction,
            train_size=all_counts["train"],
        )
        self.image_shape = (3, image_size, image_size)
        self.num_classes = num_classes
        self._counts = all_counts
        pixels = Pixels(image_size, tuple(mean), tuple(std))
        self._views = SampleViews(self.augmentation, pixels, eval_resize, eval_interpolation, num_classes)
        self.soft_targets = self._views.mixing is not None
        self._images = open_images(data_dir() / "imagenet" if root is None else Path(root))
        self._check()

    def checksum(self) -> str:
        """sha256 over classes, numbers of images and the split, for both parts.

        The content of the files is not covered: to read 150 GB before every run is not feasible. A file that cannot be
        decoded is an error when it is read.
        """
        counts = {split: len(images) for split, images in self._images.items()}
        return listing_checksum(self._images["train"].wnids, counts, self.parts)

    @property
    def _usual_workers(self) -> int:
        return default_workers()

    @property
    def _eval_batch(self) -> int:
        return _EVAL_BATCH

    def _batches(self, split: str) -> SampleBatches:
        train = split == "train"
        source = self._images["val" if split == "test" else "train"]
        positions = self._positions(split, len(source))
        return self._views.batches(source, positions, seed=self.seed, train=train, indexed=train and self.needs.indexed)

    def _check(self) -> None:
        for split, images in self._images.items():
            where = images.name(0).removeprefix(images.keys[0].decode() + " in ")
            if len(images.wnids) != self.num_classes:
                raise UserError(
                    f"the {split} images of ImageNet (the first is {where}) are of {len(images.wnids):,} classes; "
                    f"expected {self.num_classes:,}. Complete the folders, or the shards."
                )
            if len(images) != self._counts[split]:
                raise UserError(
                    f"there are {len(images):,} {split} images of ImageNet (the first is {where}); expected "
                    f"{self._counts[split]:,}. Complete them: unpack the archives again, or let `lightning-kd bench "
                    "shards` finish."
                )
        if self._images["train"].wnids != self._images["val"].wnids:
            odd = min(set(self._images["train"].wnids) ^ set(self._images["val"].wnids))
            raise UserError(f"train and val of ImageNet do not have the same classes: {odd} is in one of them only.")


@lru_cache(maxsize=2)  # a process opens the same data for every training, teacher and evaluation
def open_images(root: Path) -> dict[str, EncodedImages]:
    """The images of the splits ``train`` and ``val``, in the order of their classes and names.

    Args:
        root: folder of the images or of the shards.

    Raises:
        UserError: if there are none, or they are incomplete.
    """
    if not root.is_dir():
        raise UserError(
            f"there is no folder {root}. Expected ImageNet there: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or shards "
            "made of them by `lightning-kd bench shards`. Get it from https://www.image-net.org (an account is "
            f"needed), unpack it, and put it or a link to it there, or set {DATA_VARIABLE} to the folder around it."
        )
    shards = {split: find_shards(root, split) for split in COUNTS}
    if not any(shards.values()):
        return {split: FolderImages(root / split) for split in COUNTS}
    for split, found in shards.items():
        if not found:
            raise UserError(f"{root} has no shards of the split {split}; let `lightning-kd bench shards` finish.")
    return {split: ShardImages(found) for split, found in shards.items()}


def listing_checksum(wnids: Sequence[str], counts: Mapping[str, int], split: FixedSplit) -> str:
    """See :meth:`ImageNet.checksum`.

    Args:
        wnids: the classes.
        counts: number of images in ``train`` and ``val``.
        split: the parts.
    """
    digest = hashlib.sha256("\n".join(sorted(wnids)).encode())
    digest.update("".join(f"\n{name} {counts[name]}" for name in sorted(counts)).encode())
    digest.update(split.content())
    return digest.hexdigest()
