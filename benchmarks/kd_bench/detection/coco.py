"""COCO 2017: 118,287 photographs with boxes around objects of 80 classes to train on, 5,000 to test on.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from kd_bench.data.parts import TUNING, FixedSplit, check_part, fixed_split, no_validation
from kd_bench.detection.annotations import Annotations, check_files, read_annotations
from kd_bench.detection.categories import Categories, Numbering
from kd_bench.detection.coco_files import annotation_file, find_coco
from kd_bench.detection.data import DetectionData
from kd_bench.errors import UserError

COUNTS = {"train": 118_287, "val": 5_000}


class COCO(DetectionData):
    """COCO 2017 with its validation images as the test split.

    The images of the real test set have no public annotations. In ``root`` are ``train2017/*.jpg``, ``val2017/*.jpg``,
    ``annotations/instances_train2017.json`` and ``annotations/instances_val2017.json``.

    Args:
        batch_size: images in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of :class:`~kd_bench.detection.dataset.DetectionAugmentation`.
        part: ``final``: trained on all training images, scored on the validation images. ``tuning``: trained on a part
            of the training images and scored on the rest, which stands for the validation and the test split; the
            validation images are not used.
        split_seed: determines the parts.
        validation_fraction: share of the training images that ``tuning`` scores on.
        numbering: of the classes in targets; ``ids`` for detectors with torchvision's public weights as teachers.
        min_size: lengths of the shorter side of an image, see :attr:`~kd_bench.detection.data.DetectionData.scale`.
        max_size: the longest side.
        ratio_factor: see :class:`~kd_bench.detection.loaders.GroupedDraws`.
        root: where the files are; by default ``coco`` in :func:`~kd_bench.data.places.data_dir`.
        counts: number of images in ``train`` and ``val``.

    Raises:
        UserError: if the files are not there or not complete, or a setting makes no sense.
    """

    title = "COCO"
    has_parts = True

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        part: str = "final",
        split_seed: int = 0,
        validation_fraction: float = 0.04,
        numbering: Numbering = "contiguous",
        min_size: Sequence[int] = (800,),
        max_size: int = 1333,
        ratio_factor: int = 3,
        root: str | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(batch_size, seed, augmentation, numbering=numbering, ratio_factor=ratio_factor)
        self.part = check_part(part)
        self.scale = tuple(min_size), max_size
        self._counts = {**COUNTS, **(counts or {})}
        self._parts = fixed_split(self._counts["train"], validation_fraction, split_seed)
        self._root = find_coco(None if root is None else Path(root))

    @property
    def has_validation(self) -> bool:
        """Only in the part ``tuning``."""
        return self.part == TUNING

    def checksum(self) -> str:
        """sha256 over classes, numbers of images and the split, for both parts.

        The content of the files is not covered: to read 20 GB before every run is not feasible. Archives are verified
        when :mod:`~kd_bench.detection.coco_files` unpacks them, and results carry the hash of the annotations that
        they were scored against. A file that cannot be decoded or has another size than annotated is an error when it
        is read.
        """
        sets = [self._read(name) for name in ("train", "val")]
        for each in sets[1:]:
            if each.categories != sets[0].categories:
                raise UserError(f"{each.path} has other categories than {sets[0].path}; unpack both from one archive.")
        return listing_checksum(sets[0].categories, self._counts, self._parts)

    def truth(self, split: str) -> Annotations:
        """What is to be found in a split; in the part ``tuning`` validation and test split are the same."""
        if split == "validation" and not self.has_validation:
            raise no_validation(self.title)
        if split == "train":
            whole = self._read("train")
            return whole.subset(self._parts.train) if self.has_validation else whole
        return self._read("train").subset(self._parts.validation) if self.has_validation else self._read("val")

    def folder(self, split: str) -> Path:
        """``train2017`` or ``val2017``."""
        return self._root / f"{'train' if split == 'train' or self.has_validation else 'val'}2017"

    def _read(self, name: str) -> Annotations:
        found = _open(self._root, name)
        if len(found) != self._counts[name]:
            raise UserError(
                f"{found.path} lists {len(found):,} images; expected {self._counts[name]:,}. It is not the original "
                "file: unpack annotations_trainval2017.zip again."
            )
        return found


def listing_checksum(categories: Categories, counts: Mapping[str, int], split: FixedSplit) -> str:
    """See :meth:`COCO.checksum`.

    Args:
        categories: the classes.
        counts: number of images in ``train`` and ``val``.
        split: the parts.
    """
    digest = hashlib.sha256(json.dumps([categories.ids, categories.names]).encode())
    digest.update("".join(f"\n{name} {counts[name]}" for name in sorted(counts)).encode())
    digest.update(split.content())
    return digest.hexdigest()


@lru_cache(maxsize=4)  # a process opens the same data for every training, teacher and evaluation
def _open(root: Path, name: str) -> Annotations:
    annotations = read_annotations(annotation_file(root, name))
    check_files(annotations, root / f"{name}2017")
    return annotations
