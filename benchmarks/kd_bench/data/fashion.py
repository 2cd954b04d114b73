"""Fashion-MNIST: 70,000 real photographs of clothes, 28×28 grey pixels, ten classes.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017,
arXiv:1708.07747.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_bench.data.augment import ShiftFlip
from kd_bench.data.fashion_files import find_files
from kd_bench.data.idx import read_idx
from kd_bench.data.memory import MemoryData, SplitTensors
from kd_bench.errors import UserError

_SIDE = 28
_CLASSES = 10


class FashionMNIST(MemoryData):
    """Fashion-MNIST with its own test set; training and validation split are drawn from its training set, by class.

    Images are standardized with the training split's mean and deviation. Where the files are looked for, and that they
    are downloaded otherwise, is said at :func:`~kd_bench.data.fashion_files.find_files`.

    Args:
        batch_size: samples in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of :class:`~kd_bench.data.augment.ShiftFlip`.
        split_seed: determines the split.
        train_size: samples in the training split; fewer than there are make a run cheaper.
        validation_size: samples in the validation split.
        root: where the files are, in place of the usual places.

    Raises:
        UserError: if the files cannot be had or are not what they should be, or the sizes do not fit.
    """

    num_classes = _CLASSES
    image_shape = (1, _SIDE, _SIDE)

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        split_seed: int,
        train_size: int,
        validation_size: int,
        root: str | None = None,
    ) -> None:
        files = find_files(None if root is None else Path(root))
        split = _load(files, split_seed, train_size, validation_size)
        augment = ShiftFlip(background=split.background, **augmentation)
        super().__init__(batch_size, seed, augmentation, split, augment)


@lru_cache(maxsize=2)  # a process opens the same data for every training, teacher and evaluation
def _load(folder: Path, split_seed: int, train_size: int, validation_size: int) -> SplitTensors:
    pixels, labels = _read(folder, "train")
    test_pixels, test_labels = _read(folder, "t10k")
    indices = _draw(labels, split_seed, train_size, validation_size)
    digest = hashlib.sha256()
    for array in (pixels, labels, test_pixels, test_labels):
        digest.update(array.tobytes())
    for name in sorted(indices):
        digest.update(name.encode() + indices[name].astype("<i8").tobytes())
    parts = {name: (pixels[index], labels[index]) for name, index in indices.items()}
    parts["test"] = test_pixels, test_labels
    images = {name: torch.from_numpy(part.astype(np.float32))[:, None] for name, (part, _) in parts.items()}
    mean, deviation = images["train"].mean(), images["train"].std()
    return SplitTensors(
        images={name: (part - mean) / deviation for name, part in images.items()},
        labels={name: torch.from_numpy(part.astype(np.int64)) for name, (_, part) in parts.items()},
        background=float(-mean / deviation),
        checksum=digest.hexdigest(),
    )


def _read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz", (_SIDE, _SIDE))
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", ())
    if len(pixels) != len(labels):
        raise UserError(
            f"{folder} has {len(pixels):,} images but {len(labels):,} labels in its {part} files; they do not belong "
            "together. Replace them by the original files."
        )
    if not len(labels) or labels.max() >= _CLASSES:
        raise UserError(
            f"the {part} labels in {folder} are not those of Fashion-MNIST: expected classes 0 to {_CLASSES - 1}, "
            f"found {f'up to {labels.max()}' if len(labels) else 'none'}. Replace them by the original files."
        )
    return pixels, labels


def _draw(labels: np.ndarray, seed: int, train_size: int, validation_size: int) -> dict[str, np.ndarray]:
    from sklearn.model_selection import train_test_split

    try:
        train, validation = train_test_split(
            np.arange(len(labels)),
            train_size=train_size,
            test_size=validation_size,
            random_state=seed,
            stratify=labels,
        )
    except ValueError as error:
        raise UserError(
            f"cannot draw {train_size:,} training and {validation_size:,} validation samples by class from "
            f"{len(labels):,}: {error}"
        ) from error
    return {"train": np.sort(train), "validation": np.sort(validation)}
