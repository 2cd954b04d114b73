"""Mixup and CutMix, sample by sample, such that partners and ratios can be repeated."""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.cache.fingerprint import fingerprint
from lightning_kd.data.replayable import ReplayableDataset
from lightning_kd.data.seeding import seed_of


class _Mixed(ReplayableDataset):
    """Samples of a replayable data set, each mixed with another.

    Args:
        dataset: samples ``(image, label)``; after its transform the image is a tensor ``(..., H, W)``, all of one size.
        num_classes: number of classes; ``None`` to keep both labels.
        alpha: parameter of the Beta distribution that ratios are drawn from.
        probability: of a sample being mixed at all.
    """

    def __init__(
        self, dataset: ReplayableDataset, num_classes: int | None = None, alpha: float = 1.0, probability: float = 1.0
    ) -> None:
        if not isinstance(dataset, ReplayableDataset):
            raise TypeError(
                f"{type(self).__name__} mixes samples that can be drawn again, got {type(dataset).__name__}; wrap the "
                "data set first: Replayed(dataset, transform=..., views=...)"
            )
        if not alpha > 0 or not 0 <= probability <= 1:
            raise ValueError(
                f"alpha must be positive and probability between 0 and 1, got alpha={alpha}, probability={probability}"
            )
        super().__init__(dataset.views, dataset.seed)
        self.dataset, self.num_classes, self.alpha, self.probability = dataset, num_classes, alpha, probability

    @property
    def fingerprint(self) -> str:
        """That of the samples, and how they are mixed."""
        return fingerprint([type(self), self.dataset.fingerprint, self.num_classes, self.alpha, self.probability])

    def partner(self, index: int, view: int) -> tuple[int, float]:
        """What a sample is mixed with, and its own share in the mixture; (the sample, 1) where it is not mixed.

        Args:
            index: position of the sample.
            view: the view; the partner is seen in the same one.
        """
        draws = self._draws("partner", index, view)
        if draws.random() >= self.probability:
            return index, 1.0
        return draws.randrange(len(self)), draws.betavariate(self.alpha, self.alpha)

    def draw(self, index: int, view: int) -> Any:
        """The mixed image and its labels."""
        other, ratio = self.partner(index, view)
        image, label = self._sample(index, view)
        partner, partner_label = self._sample(other, view)
        # a stream of its own: what is drawn for the box must not depend on how many draws came before
        image, ratio = self._mix(image, partner, ratio, self._draws("box", index, view))
        if self.num_classes is None:
            return image, label, partner_label, ratio
        return image, ratio * self._one_hot(label) + (1 - ratio) * self._one_hot(partner_label)

    @abstractmethod
    def _mix(self, image: Tensor, partner: Tensor, ratio: float, draws: random.Random) -> tuple[Tensor, float]:
        """Mix; returns the image and its true share."""

    def __len__(self) -> int:
        return len(self.dataset)

    def _draws(self, what: str, index: int, view: int) -> random.Random:
        return random.Random(seed_of(self.seed, type(self).__name__, what, view, index))

    def _sample(self, index: int, view: int) -> tuple[Tensor, Any]:
        sample = self.dataset.draw(index, view)
        if not isinstance(sample, tuple | list) or len(sample) != 2 or not isinstance(sample[0], Tensor):
            given = f"a {type(sample).__name__}"
            if isinstance(sample, tuple | list):
                given += f" of {', '.join(type(item).__name__ for item in sample)}"
            raise TypeError(
                f"{type(self).__name__} expected samples (image tensor, label), got {given}; let the transform of the "
                "wrapped data set end in a tensor"
            )
        return sample[0], sample[1]

    def _one_hot(self, label: Any) -> Tensor:
        assert self.num_classes is not None
        label = torch.as_tensor(label)
        return label.float() if label.dim() else F.one_hot(label.long(), self.num_classes).float()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dataset!r}, alpha={self.alpha})"


class MixedUp(_Mixed):
    """Mixup: every image is a weighted mean of two, and so are the labels.

    Partner and ratio depend on seed, view and index alone, so the mixed sample can be drawn again, and a teacher's
    answer to it can be kept. With ``num_classes`` samples are ``(image, class probabilities)``; without they are
    ``(image, label, partner's label, ratio)``.

    Args:
        dataset: samples ``(image, label)``; after its transform the image is a tensor ``(..., H, W)``, all of one size.
        num_classes: number of classes; ``None`` to keep both labels.
        alpha: parameter of the Beta distribution that ratios are drawn from.
        probability: of a sample being mixed at all.

    Raises:
        TypeError: if the data set cannot be replayed.
        ValueError: if ``alpha`` or ``probability`` is out of range.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412.
    """

    def _mix(self, image: Tensor, partner: Tensor, ratio: float, draws: random.Random) -> tuple[Tensor, float]:
        return ratio * image + (1 - ratio) * partner, ratio


class CutMixed(_Mixed):
    """CutMix: a rectangle of every image comes from another; the labels are mixed by the share of pixels.

    Partner, ratio and rectangle depend on seed, view and index alone; see :class:`MixedUp` for what samples are.

    Args:
        dataset: samples ``(image, label)``; after its transform the image is a tensor ``(..., H, W)``, all of one size.
        num_classes: number of classes; ``None`` to keep both labels.
        alpha: parameter of the Beta distribution that ratios are drawn from.
        probability: of a sample being mixed at all.

    Raises:
        TypeError: if the data set cannot be replayed.
        ValueError: if ``alpha`` or ``probability`` is out of range.

    Reference: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
    2019, arXiv:1905.04899.
    """

    def _mix(self, image: Tensor, partner: Tensor, ratio: float, draws: random.Random) -> tuple[Tensor, float]:
        height, width = image.shape[-2:]
        share = math.sqrt(1 - ratio)
        rows = _span(int(height * share), draws.randrange(height), height)
        columns = _span(int(width * share), draws.randrange(width), width)
        image = image.clone()
        image[..., rows, columns] = partner[..., rows, columns]
        return image, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def _span(length: int, centre: int, size: int) -> slice:
    return slice(max(0, centre - length // 2), min(size, centre + (length + 1) // 2))
