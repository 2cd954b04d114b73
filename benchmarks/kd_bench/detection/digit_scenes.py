"""The data of ``digits-detection-v1``: scenes of handwritten digits, generated on the spot; nothing is downloaded.

The digits are those of :mod:`kd_bench.data.digits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from kd_bench.data.settings import parse_settings
from kd_bench.detection.annotations import Annotations, check_files, read_annotations
from kd_bench.detection.categories import Numbering
from kd_bench.detection.data import DetectionData
from kd_bench.detection.scene_files import CONTENT, annotation_file, find_scenes
from kd_bench.detection.scenes import SPLITS, SceneSettings
from kd_bench.names import unknown


class DigitScenes(DetectionData):
    """Scenes with one to eight digits; training, validation and test scenes show different handwriting.

    They are written to disk as COCO's JSON and PNG when they are first used.

    Args:
        batch_size: images in a training batch.
        seed: determines order and augmentation of the training data.
        augmentation: settings of :class:`~kd_bench.detection.dataset.DetectionAugmentation`.
        scenes: settings of :class:`~kd_bench.detection.scenes.SceneSettings`, as far as they are not the usual ones.
        numbering: of the classes in targets.
        root: where to keep the files, in place of :func:`~kd_bench.data.places.data_dir`.

    Raises:
        UserError: if a setting makes no sense or the files cannot be written.
    """

    title = "digit scenes"
    eval_batch = 16

    def __init__(
        self,
        batch_size: int,
        seed: int,
        augmentation: Mapping[str, Any],
        *,
        scenes: Mapping[str, Any] | None = None,
        numbering: Numbering = "contiguous",
        root: str | None = None,
    ) -> None:
        # all have the same shape
        super().__init__(batch_size, seed, augmentation, numbering=numbering, ratio_factor=0)
        settings = parse_settings(SceneSettings, scenes or {}, "the data's scenes cannot be made")
        self._root = find_scenes(settings, None if root is None else Path(root))

    def checksum(self) -> str:
        """sha256 over annotations and pixels, in all splits."""
        return (self._root / CONTENT).read_text()

    def truth(self, split: str) -> Annotations:
        """What is to be found in a split."""
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        return _open(self._root, split)

    def folder(self, split: str) -> Path:
        """The folder of the images of a split."""
        return self._root / split


@lru_cache(maxsize=6)  # a process opens the same data for every training, teacher and evaluation
def _open(root: Path, split: str) -> Annotations:
    annotations = read_annotations(annotation_file(root, split))
    check_files(annotations, root / split)
    return annotations
