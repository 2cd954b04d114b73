"""Mixup and CutMix: each image of a batch is mixed with its mirror image in the batch, and so are the labels.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412; Yun et al., "CutMix:
Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019, arXiv:1905.04899. As timm
defines them: one ratio a batch, the first image is mixed with the last, and CutMix's ratio is that of the pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """Mixes a batch by mixup or, with an even chance where both are on, by CutMix.

    Attributes:
        num_classes: number of classes.
        mixup: ``alpha`` of the Beta distribution that mixup's ratio is drawn from; 0 turns it off.
        cutmix: the same for CutMix.
    """

    num_classes: int
    mixup: float
    cutmix: float

    def __call__(
        self, images: Tensor, labels: Tensor, other_images: Tensor, other_labels: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Mix.

        Args:
            images: ``(B, C, H, W)``.
            labels: class indices, ``(B,)``.
            other_images: what each image is mixed with.
            other_labels: their labels.
            seed: determines what is drawn.

        Returns:
            The images, and class probabilities ``(B, num_classes)``.
        """
        generator = np.random.default_rng(seed)
        cut = self.cutmix > 0 and (self.mixup == 0 or generator.random() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        ratio = float(generator.beta(alpha, alpha))
        if cut:
            height, width = images.shape[-2:]
            row, column = int(generator.integers(height)), int(generator.integers(width))
            rows, columns = cut_box(height, width, ratio, row, column)
            images = images.clone()
            images[..., rows, columns] = other_images[..., rows, columns]
            ratio = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        else:
            images = images * ratio + other_images * (1 - ratio)
        targets, others = (F.one_hot(each, self.num_classes).float() for each in (labels, other_labels))
        return images, targets * ratio + others * (1 - ratio)


def cut_box(height: int, width: int, ratio: float, row: int, column: int) -> tuple[slice, slice]:
    """The rows and columns that CutMix replaces; ``1 - ratio`` of the pixels, unless the box reaches over the edge.

    >>> cut_box(8, 8, 0.75, row=4, column=0)
    (slice(2, 6, None), slice(0, 2, None))

    Args:
        height: of the image.
        width: of the image.
        ratio: share that is left as it is.
        row: centre of the box.
        column: centre of the box.
    """
    share = math.sqrt(1 - ratio)
    return _span(int(height * share), row, height), _span(int(width * share), column, width)


def _span(length: int, centre: int, size: int) -> slice:
    return slice(max(0, centre - length // 2), min(size, centre + (length + 1) // 2))
