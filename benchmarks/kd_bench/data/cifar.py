"""CIFAR-100: 60,000 real photographs of 32×32 pixels in a hundred classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from pydantic import Field
from torch import Tensor

from kd_bench.data.augment import ShiftFlip
from kd_bench.data.batches import TensorBatches
from kd_bench.data.cifar_files import Checksums, find_cifar100, public_checksums, read_cifar100
from kd_bench.data.parted import PartedData
from kd_bench.data.sample_transforms import Interpolation, Pixels
from kd_bench.data.samples import SampleBatches
from kd_bench.data.settings import parse_settings
from kd_bench.data.standardize import Standardize
from kd_bench.data.views import SampleViews
from kd_bench.data.workers import default_workers
from kd_bench.errors import UserError
from kd_bench.recipe import Spec

SIDE = 32
_SIZES = {"train": 50_000, "test": 10_000}
_EVAL_BATCH = 1000
_EVAL_BATCH_RESIZED = 128


class CropFlip(Spec):
    """Random transforms of training images at their own size.

    Attributes:
        crop_padding: black pixels around the image, of which a crop of the old size is taken.
        flip: whether half of the images are mirrored horizontally.
    """

    crop_padding: Annotated[int, Field(ge=0, lt=SIDE)]
    flip: bool


class CIFAR100(PartedData):
    """CIFAR-100 with its own training and test set.

    At its own size images are bytes in memory, and whole batches are augmented at once. At another ``image_size`` they
    are resized one by one. Where the files are looked for, and that they are downloaded otherwise, is said at
    :func:`~kd_bench.data.cifar_files.find_cifar100`; that happens when the first loader is made.

    Args:
        batch_size: samples in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of :class:`CropFlip`, or at another ``image_size`` of
            :class:`~kd_bench.data.sample_transforms.SampleAugmentation`.
        part: ``final``: trained on the whole training set, scored on the test set. ``tuning``: trained on a part of the
            training set and scored on the rest, which stands for the validation and the test split; the test images
            are not used.
        split_seed: determines the parts.
        validation_fraction: share of the training set that ``tuning`` scores on.
        image_size: height and width of the images that networks see.
        eval_resize: what test images are resized to before their centre is cut out; ``image_size`` by default.
        eval_interpolation: of that resizing, ``bilinear`` or ``bicubic``.
        mean: of each channel, in units of the full range.
        std: standard deviation of each channel.
        root: where the files are, in place of the usual places.
        checksums: md5 of ``archive``, ``train``, ``test`` and ``meta``; those of the public files by default.
        sizes: number of images in ``train`` and ``test``; those of the public files by default.

    Raises:
        UserError: if a setting makes no sense.
    """

    num_classes = 100
    title = "CIFAR-100"

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        part: str = "final",
        split_seed: int = 0,
        validation_fraction: float = 0.1,
        image_size: int = SIDE,
        eval_resize: int | None = None,
        eval_interpolation: Interpolation = "bicubic",
        mean: Sequence[float] = (0.5071, 0.4867, 0.4408),
        std: Sequence[float] = (0.2675, 0.2565, 0.2761),
        root: str | None = None,
        checksums: Mapping[str, str] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        all_sizes = {**_SIZES, **(sizes or {})}
        super().__init__(
            batch_size,
            seed,
            augmentation,
            part=part,
            split_seed=split_seed,
            validation_fraction=validation_fraction,
            train_size=all_sizes["train"],
        )
        self.image_shape = (3, image_size, image_size)
        self._root = None if root is None else Path(root)
        self._checksums = public_checksums() if checksums is None else Checksums(**checksums)
        self._sizes = all_sizes
        self._standardize = Standardize(mean, std)
        self._augment: ShiftFlip | None = None
        self._views: SampleViews | None = None
        if image_size == SIDE:
            crop = parse_settings(CropFlip, self.augmentation)
            self._augment = ShiftFlip(shift=crop.crop_padding, flip=0.5 if crop.flip else 0.0)
        else:
            pixels = Pixels(image_size, tuple(mean), tuple(std))
            resize = eval_resize or image_size
            self._views = SampleViews(self.augmentation, pixels, resize, eval_interpolation, self.num_classes)
            self.soft_targets = self._views.mixing is not None

    def checksum(self) -> str:
        """sha256 over the md5s of the files, which are verified when they are read, and the split; for both parts."""
        known = self._checksums
        digest = hashlib.sha256("".join((known.archive, known.train, known.test, known.meta)).encode())
        digest.update(self.parts.content())
        return digest.hexdigest()

    def prepare_data(self) -> None:
        """Find, or download, the files."""
        find_cifar100(self._root, self._checksums)

    @property
    def _usual_workers(self) -> int:
        return 0 if self._views is None else default_workers()

    @property
    def _eval_batch(self) -> int:
        return _EVAL_BATCH if self._views is None else _EVAL_BATCH_RESIZED

    def _batches(self, split: str) -> TensorBatches | SampleBatches:
        images, labels = self._read("test" if split == "test" else "train")
        positions = self._positions(split, len(labels))
        train = split == "train"
        indexed = train and self.needs.indexed
        if self._views is not None:
            source = PixelSource(images, labels)
            return self._views.batches(source, positions, seed=self.seed, train=train, indexed=indexed)
        if self.has_validation:
            images, labels = images[positions], labels[positions]
        augment = self._augment if train else None
        return TensorBatches(images, labels, augment, prepare=self._standardize, indexed=indexed)

    def _read(self, file: str) -> tuple[Tensor, Tensor]:
        place = find_cifar100(self._root, self._checksums)
        images, labels = read_cifar100(place, self._checksums, file == "train")
        if len(labels) != self._sizes[file]:
            raise UserError(
                f"{place} has {len(labels):,} {file} images, but data.parameters.sizes says {self._sizes[file]:,}; "
                "correct it."
            )
        return images, labels


class PixelSource:
    """Images in memory, one at a time, for transforms of single images.

    Args:
        images: bytes, ``(N, 3, H, W)``.
        labels: ``(N,)``.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def load(self, index: int) -> Image.Image:
        """An image."""
        return Image.fromarray(self.images[index].permute(1, 2, 0).numpy())
