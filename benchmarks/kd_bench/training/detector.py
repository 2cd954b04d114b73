"""Student and teacher detectors as an ordinary LightningModule that knows nothing of distillation."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from kd_bench.detection.data import DetectionData
from kd_bench.detection.dataset import Batch
from kd_bench.detection.detections import Detections, concatenate
from kd_bench.detection.evaluate import evaluate
from kd_bench.recipe import Recipe
from kd_bench.training.learner import VALIDATION, Learner
from lightning_kd.detection import DetectionOutput


class DetectorLearner(Learner):
    """Training of a detection network by its own losses.

    After every epoch the AP on the validation split is logged, if there is one.

    Args:
        network: see :class:`lightning_kd.detection.DetectionNetwork`; transforms images itself.
        recipe: optimizer and schedule.
        data: has the validation split.
    """

    score = "AP"

    def __init__(self, network: Any, recipe: Recipe, data: DetectionData) -> None:
        super().__init__()
        self.network: Any = network
        self.recipe = recipe
        self._data = data
        # lets methods size their connectors without touching the training data
        image, _ = data.images("train")[0]
        self.example_input_array = ([image, image],)
        self._found: list[Detections] = []

    @override
    def forward(self, images: list[Tensor]) -> DetectionOutput:
        inputs, sizes, _ = self.network.transform(images)
        output: DetectionOutput = self.network(inputs, sizes)
        return output

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        boxes = [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
        output = self.network(*self.network.transform(images, boxes))
        loss: Tensor = sum(output.losses.values())
        return loss

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._found.append(detect(self.network, batch, self._data))

    @override
    def on_validation_epoch_end(self) -> None:
        """Score what all processes found."""
        found, self._found = self._found, []
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            dist.all_gather_object(parts, found)
            found = [each for part in parts for each in part]
        metrics = evaluate(self._data.truth("validation"), concatenate(found))
        self.log(VALIDATION + self.score, metrics.ap)


def detect(network: Any, batch: Batch, data: DetectionData) -> Detections:
    """What a network in eval mode finds on a batch, in pixels of the original images."""
    images, targets = batch
    inputs, sizes, _ = network.transform(images)
    found = network.detect(network(inputs, sizes), sizes)
    originals = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    moved = network.to_original(found, sizes, originals)
    ids = [int(target["image_id"]) for target in targets]
    return Detections.of_images(zip(ids, moved, strict=True), data.categories, data.numbering)
