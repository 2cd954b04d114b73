"""Images with boxes, one by one or in batches, each determined by seed, epoch and image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from kd_bench.data.batches import Draw
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.boxes import UsableBoxes, usable_boxes
from kd_bench.detection.categories import Integers, Numbering
from kd_bench.errors import UserError
from kd_bench.recipe import Fraction, Spec

Target = dict[str, Any]
"""``{"boxes": (G, 4) as x1, y1, x2, y2 in pixels, "labels": (G,) with 0 for the background, "image_id": int}``."""

Batch = tuple[list[Tensor], list[Target]]


class DetectionAugmentation(Spec):
    """Random changes of training images.

    Attributes:
        flip: probability that an image is mirrored horizontally.
    """

    flip: Fraction = 0.5


class DetectionImages(Dataset[Any]):
    """Images of a folder with their boxes; crowds, boxes without area and what lies outside are not among those.

    What an augmented image looks like depends on the seed, the epoch and the image alone: not on the batch, nor on the
    process that makes it. The detector resizes and normalizes, so that its teacher can share the result.

    Args:
        folder: has the images.
        annotations: say which images, and their boxes.
        numbering: of the classes in targets.
        augmentation: applied to images of batches; ``None`` for none.
        seed: determines the augmentation, together with epoch and image.
        only_with_boxes: whether images without a box are left out, as training recipes do.
    """

    def __init__(
        self,
        folder: Path,
        annotations: Annotations,
        numbering: Numbering = "contiguous",
        *,
        augmentation: DetectionAugmentation | None = None,
        seed: int = 0,
        only_with_boxes: bool = False,
    ) -> None:
        self.folder, self.annotations, self.augmentation, self.seed = folder, annotations, augmentation, seed
        self.boxes: UsableBoxes = usable_boxes(annotations)
        self._labels = annotations.categories.for_torchvision(numbering)
        per_image = np.diff(self.boxes.start)
        self.positions: Integers = np.flatnonzero(per_image > 0) if only_with_boxes else np.arange(len(annotations))
        if not len(self.positions):
            raise UserError(f"{annotations.path} has no image with a box to train on: {self.boxes.counts}.")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def ratios(self) -> np.ndarray:
        """Width divided by height of each image, ``(N,)``."""
        return np.asarray(self.annotations.width[self.positions] / self.annotations.height[self.positions])

    def __getitem__(self, key: Draw | int) -> Batch | tuple[Tensor, Target]:
        """A batch; with an integer a single image ``(3, H, W)`` in [0, 1] and its target, without augmentation."""
        if not isinstance(key, Draw):
            return self._sample(int(self.positions[key]))
        samples = [self._augmented(int(self.positions[index]), key.epoch) for index in key.indices[key.own]]
        return [image for image, _ in samples], [target for _, target in samples]

    def picture(self, position: int) -> Image.Image:
        """Decode an image, in colour.

        Args:
            position: in :attr:`annotations`.

        Raises:
            UserError: if it cannot be read, or its size is not what the annotations say.
        """
        path = self.folder / self.annotations.name(position)
        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{path} is not an image that can be read: {error}. Replace it by the original file."
            ) from error
        expected = int(self.annotations.width[position]), int(self.annotations.height[position])
        if picture.size != expected:
            raise UserError(
                f"{path} is {picture.size[0]} x {picture.size[1]} pixels, but {self.annotations.path} says "
                f"{expected[0]} x {expected[1]}, so its boxes would be wrong. Replace it by the original file."
            )
        return picture

    def _sample(self, position: int) -> tuple[Tensor, Target]:
        image = F.pil_to_tensor(self.picture(position)).float().div_(255)
        corners, labels = self.boxes.of(position)
        target = {
            "boxes": torch.tensor(corners),
            "labels": torch.tensor(self._labels[labels]),
            "image_id": int(self.annotations.image_id[position]),
        }
        return image, target

    def _augmented(self, position: int, epoch: int) -> tuple[Tensor, Target]:
        image, target = self._sample(position)
        if self.augmentation is not None:
            random = np.random.default_rng([self.seed, epoch, position])
            if random.random() < self.augmentation.flip:
                return _mirror(image, target)
        return image, target


def _mirror(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    left, top, right, bottom = target["boxes"].unbind(1)
    width = image.shape[2]
    return image.flip(2), {**target, "boxes": torch.stack([width - right, top, width - left, bottom], dim=1)}
