"""How the images of a data set are seen in training and in testing, where they are transformed one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kd_bench.data.mixing import Mixing
from kd_bench.data.sample_transforms import (
    Interpolation,
    Pixels,
    SampleAugmentation,
    evaluation_transform,
    training_transform,
)
from kd_bench.data.samples import ImageSource, SampleBatches
from kd_bench.data.settings import parse_settings


class SampleViews:
    """The two transforms, and the mixing of training batches.

    Args:
        augmentation: settings of :class:`~kd_bench.data.sample_transforms.SampleAugmentation`.
        pixels: what images become.
        eval_resize: see :func:`~kd_bench.data.sample_transforms.evaluation_transform`.
        eval_interpolation: the same.
        num_classes: number of classes.

    Raises:
        UserError: if the settings are not valid, or need a library that is not there.
    """

    def __init__(
        self,
        augmentation: Mapping[str, Any],
        pixels: Pixels,
        eval_resize: int,
        eval_interpolation: Interpolation,
        num_classes: int,
    ) -> None:
        settings = parse_settings(SampleAugmentation, augmentation)
        self.training = training_transform(settings, pixels)
        self.evaluation = evaluation_transform(eval_resize, eval_interpolation, pixels)
        mixes = settings.mixup or settings.cutmix
        self.mixing = Mixing(num_classes, settings.mixup, settings.cutmix) if mixes else None

    def batches(
        self, source: ImageSource, positions: Tensor, *, seed: int, train: bool, indexed: bool
    ) -> SampleBatches:
        """Batches of some images of a source.

        Args:
            source: the images.
            positions: those that are used.
            seed: determines the augmentation.
            train: whether they are augmented.
            indexed: whether batches come with positions.
        """
        if not train:
            return SampleBatches(source, self.evaluation, positions)
        return SampleBatches(
            source,
            self.evaluation,
            positions,
            augment=self.training,
            seed=seed,
            mixing=self.mixing,
            indexed=indexed,
        )
