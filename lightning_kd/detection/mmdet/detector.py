"""A LightningModule that trains and evaluates a detector of mmdet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from typing_extensions import override

from lightning_kd.detection.detector import Detector
from lightning_kd.detection.mmdet.load import load_config, load_model
from lightning_kd.detection.mmdet.network import MMDetectionNetwork
from lightning_kd.detection.mmdet.pipeline import is_pipeline_batch, original_sizes, prepare, targets_of
from lightning_kd.detection.mmdet.transform import Scale, scale_of
from lightning_kd.task import MakeOptimizer, MakeScheduler


class MMDetector(Detector):
    """A detector of mmdet, ready for a Trainer and for distillation.

    A batch is ``(images, targets)`` as for :class:`~lightning_kd.detection.detector.Detector`, or what mmdet's own
    pipelines give: ``{"inputs": ..., "data_samples": ...}``. The latter is normalized and padded only. For validation,
    annotations must be loaded after the images are resized, as mmdet's test pipelines do it: their boxes are taken for
    those of the original images.

    Logs what :class:`~lightning_kd.detection.detector.Detector` logs. To distil, student and teacher need the same
    normalization, see :class:`~lightning_kd.detection.mmdet.network.MMDetectionNetwork`.

    Args:
        config: name of a config of mmdet, or the path of a file; see
            :func:`~lightning_kd.detection.mmdet.load.load_config`.
        checkpoint: weights of the whole detector.
        num_classes: number of classes without the background; by default the config's.
        optimizer: from parameters to an optimizer; by default SGD with learning rate 0.01, momentum 0.9 and weight
            decay 1e-4.
        scheduler: from the optimizer to a learning-rate scheduler stepped once per ``interval``.
        interval: ``"epoch"`` or ``"step"``.
        pretrained: without a checkpoint, start from the backbone that the config names; may download it.
        trust_checkpoint: unpickle the checkpoint, which lets it run any code.
        label_offset: the label of the first class: 1 where 0 is the background.
        scale: the longer side of images at most, and the shorter, in pixels; by default that of the config's test
            images. Of several, one is drawn for every training batch, and the last is evaluated on.

    Attributes:
        network: the :class:`~lightning_kd.detection.mmdet.network.MMDetectionNetwork`.

    Raises:
        ImportError: if mmdet is not installed, or not in a version that fits.
        ValueError: if the config, the checkpoint or the interval is unknown or does not fit.

    Example::

        student = MMDetector("gfl_r50_fpn_1x_coco")
        teacher = MMDetector("gfl_r101_fpn_ms-2x_coco", checkpoint="gfl_r101.safetensors")
        module = DistillationModule(student, teacher, method=[CrossKD(), PKD(weight=6)])
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path | None = None,
        num_classes: int | None = None,
        optimizer: MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        *,
        interval: str = "epoch",
        pretrained: bool = True,
        trust_checkpoint: bool = False,
        label_offset: int = 1,
        scale: Scale | Sequence[Scale] | None = None,
    ) -> None:
        content = load_config(config)
        model = load_model(
            content,
            checkpoint,
            num_classes=num_classes,
            pretrained=pretrained,
            trust_checkpoint=trust_checkpoint,
        )
        network = MMDetectionNetwork(model, label_offset, scale or scale_of(content))
        super().__init__(network, optimizer=optimizer, scheduler=scheduler, interval=interval)
        self.save_hyperparameters(
            {
                "config": str(config),
                "num_classes": network.num_classes,
                "interval": interval,
                "label_offset": label_offset,
                "scale": network.scales,
            }
        )

    @override
    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Sum of the detector's losses."""
        if not is_pipeline_batch(batch):
            return super().training_step(batch, batch_idx)
        return self.learn(*self._prepared(batch, training=True))

    @override
    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Tensor]]:
        """Detections of a batch, with or without targets, in pixels of the original images."""
        return self._detect_prepared(batch) if is_pipeline_batch(batch) else super().predict_step(batch, batch_idx)

    @override
    def _evaluate(self, batch: Any, precision: MeanAveragePrecision | None) -> None:
        if precision is None or not is_pipeline_batch(batch):
            super()._evaluate(batch, precision)
            return
        precision.update(self._detect_prepared(batch), targets_of(batch["data_samples"], self.network.label_offset))

    def _prepared(self, batch: Any, *, training: bool) -> tuple[Tensor, list[tuple[int, int]], list[dict[str, Tensor]]]:
        network = self.network
        return prepare(batch, network.model.data_preprocessor, network.label_offset, training=training)

    def _detect_prepared(self, batch: Any) -> list[dict[str, Tensor]]:
        images, sizes, _ = self._prepared(batch, training=False)
        found = self.network.detect(self.network(images, sizes), sizes)
        return list(self.network.to_original(found, sizes, original_sizes(batch["data_samples"])))
