"""Whole batches from images that are decoded and transformed one by one, each determined by seed, epoch and sample."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from kd_bench.data.batches import Draw
from kd_bench.data.mixing import Mixing
from kd_bench.data.sample_transforms import Transform
from kd_bench.data.seeding import seeded
from lightning_kd.callbacks import hold_out
from lightning_kd.data import Indexed


class ImageSource(Protocol):
    """Labelled images.

    Attributes:
        labels: class indices, ``(N,)``.
    """

    labels: Tensor

    def load(self, index: int) -> Image.Image:
        """Decode an image, in colour."""


class SampleBatches(Dataset[Any]):
    """Images that are indexed by batch.

    What an augmented image looks like depends on the seed, the epoch and its position in ``source`` alone: not on the
    batch, nor on the process that makes it.

    Args:
        source: the images.
        plain: transform of images that are not augmented.
        positions: those of the source's images that are used, ``(N,)``; all by default.
        augment: transform of the images of batches, in place of ``plain``; it draws from the global random states.
        seed: what augmentation is drawn from, together with epoch and position.
        mixing: applied to augmented batches.
        indexed: whether batches come with the positions of their samples, as :class:`~lightning_kd.data.Indexed`.
    """

    def __init__(
        self,
        source: ImageSource,
        plain: Transform,
        positions: Tensor | None = None,
        *,
        augment: Transform | None = None,
        seed: int = 0,
        mixing: Mixing | None = None,
        indexed: bool = False,
    ) -> None:
        self.source, self.plain, self.augment, self.seed = source, plain, augment, seed
        self.positions = torch.arange(len(source.labels)) if positions is None else positions
        self.labels = source.labels[self.positions]
        self.mixing, self.indexed = mixing, indexed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Draw | int) -> tuple[Tensor, Tensor] | Indexed:
        """A batch; with an integer a single sample, without augmentation."""
        if not isinstance(key, Draw):
            return self.plain(self.source.load(int(self.positions[key]))), self.labels[key]
        indices = key.indices[key.own]
        batch = self._images(indices, key.epoch), self.labels[indices]
        if self.mixing is not None:
            others = key.indices.flip(0)[key.own]
            # where this rank has the whole batch, the others are in it
            images = batch[0].flip(0) if len(others) == len(key.indices) else self._images(others, key.epoch)
            batch = self.mixing(*batch, images, self.labels[others], key.seed)
        return Indexed(batch, indices) if self.indexed else batch

    def split(self, fraction: float, seed: int) -> tuple[SampleBatches, SampleBatches]:
        """Split by class, without a common sample, into what is trained on and what is held out; the latter as it is.

        Args:
            fraction: share of the samples that is held out.
            seed: seed of the split.
        """
        train, held_out = (self.positions[torch.tensor(part.indices)] for part in hold_out(self, fraction, seed))
        return (
            SampleBatches(
                self.source,
                self.plain,
                train,
                augment=self.augment,
                seed=self.seed,
                mixing=self.mixing,
                indexed=self.indexed,
            ),
            SampleBatches(self.source, self.plain, held_out),
        )

    def _images(self, indices: Iterable[Tensor], epoch: int) -> Tensor:
        return torch.stack([self._image(int(self.positions[index]), epoch) for index in indices])

    def _image(self, position: int, epoch: int) -> Tensor:
        image = self.source.load(position)
        if self.augment is None:
            return self.plain(image)
        with seeded(self.seed, epoch, position):
            return self.augment(image)
