"""scikit-learn's bundled handwritten digits: 1,797 real images of 8×8 pixels, ten classes; nothing is downloaded.

A subset (the test part) of the Optical Recognition of Handwritten Digits data set, Alpaydin and Kaynak, UCI 1998,
https://doi.org/10.24432/C50P49.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from kd_bench.data.augment import RandomAffine
from kd_bench.data.memory import MemoryData, SplitTensors


class Digits(MemoryData):
    """The digits in a stratified split; images are standardized with the training split's mean and deviation.

    Args:
        batch_size: samples in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of :class:`~kd_bench.data.augment.RandomAffine`; its noise is in standard deviations.
        split_seed: determines the split.
        validation_fraction: share of each class in the validation split.
        test_fraction: share of each class in the test split.
    """

    num_classes = 10
    image_shape = (1, 8, 8)

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        split_seed: int,
        validation_fraction: float,
        test_fraction: float,
    ) -> None:
        split = _load(split_seed, validation_fraction, test_fraction)
        augment = RandomAffine(background=split.background, **augmentation)
        super().__init__(batch_size, seed, augmentation, split, augment)


@cache
def _load(split_seed: int, validation_fraction: float, test_fraction: float) -> SplitTensors:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = np.ascontiguousarray(bundle.images, dtype=np.uint8)
    labels = np.ascontiguousarray(bundle.target, dtype=np.uint8)
    indices = _stratified(labels, split_seed, validation_fraction, test_fraction)
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes())
    for name in sorted(indices):
        digest.update(name.encode() + indices[name].astype("<i8").tobytes())
    images = torch.from_numpy(pixels).float()[:, None]
    mean, deviation = images[indices["train"]].mean(), images[indices["train"]].std()
    images = (images - mean) / deviation
    return SplitTensors(
        images={name: images[index] for name, index in indices.items()},
        labels={name: torch.from_numpy(labels).long()[index] for name, index in indices.items()},
        background=float(-mean / deviation),
        checksum=digest.hexdigest(),
    )


def _stratified(
    labels: np.ndarray, seed: int, validation_fraction: float, test_fraction: float
) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {"validation": [], "test": [], "train": []}
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        validation, test = round(validation_fraction * len(members)), round(test_fraction * len(members))
        for name, part in zip(parts, np.split(members, [validation, validation + test]), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}
