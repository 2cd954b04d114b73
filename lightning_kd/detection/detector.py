"""A LightningModule that trains and evaluates a detector of torchvision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from lightning_utilities.core.imports import RequirementCache
from torch import Tensor, nn
from torch.optim import SGD
from torchmetrics.detection import MeanAveragePrecision
from typing_extensions import override

from lightning_kd.detection.network import DetectionNetwork, Targets
from lightning_kd.detection.torchvision_models import create_detector, wrap_detector
from lightning_kd.detection.torchvision_network import Detections
from lightning_kd.task import MakeOptimizer, MakeScheduler

_default_optimizer = partial(SGD, lr=0.01, momentum=0.9, weight_decay=1e-4)


class Detector(L.LightningModule):
    """A detector of torchvision, ready for a Trainer and for distillation.

    A batch is ``(images, targets)``: a list of ``(3, H, W)`` images in [0, 1], of any sizes, and a list of
    ``{"boxes": (G, 4) as x1, y1, x2, y2 in pixels, "labels": (G,)}``. Labels start at 1; 0 is the background. Crowds
    and boxes without area are left out where the data is loaded.

    Images are transformed once and given to :attr:`network`, the call that is distilled: the teacher, a detector or a
    :class:`~lightning_kd.detection.DetectionNetwork`, gets the same padded images, normalized as this detector does it.

    Logs every loss and their sum under ``train/``, and the average precision ``map`` and ``map_50`` under ``val/`` and
    ``test/``. These come from torchmetrics and are meant to watch the progress.

    Args:
        network: name of a detector, see :func:`~lightning_kd.detection.create_detector`, a torchvision model, or
            a :class:`~lightning_kd.detection.DetectionNetwork` with ``transform`` and ``to_original`` as
            :class:`~lightning_kd.detection.torchvision_network.TorchvisionNetwork` has them.
        num_classes: number of classes, background included; left out for a model.
        optimizer: from parameters to an optimizer; by default SGD with learning rate 0.01, momentum 0.9 and weight
            decay 1e-4.
        scheduler: from the optimizer to a learning-rate scheduler stepped once per ``interval``.
        interval: ``"epoch"`` or ``"step"``.
        **options: handed to :func:`~lightning_kd.detection.create_detector`.

    Attributes:
        network: the :class:`~lightning_kd.detection.DetectionNetwork`.

    Raises:
        TypeError: if ``num_classes`` is missing for a name, or options are given for a model.
        ValueError: if the interval is unknown.

    Example::

        student = Detector("retinanet_resnet18_fpn", num_classes=91, backbone_weights="DEFAULT")
        teacher = Detector("retinanet_resnet50_fpn_v2", num_classes=91, weights="DEFAULT")
        module = DistillationModule(student, teacher, method=PKD(weight=10))
    """

    def __init__(
        self,
        network: str | nn.Module,
        num_classes: int | None = None,
        optimizer: MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        *,
        interval: str = "epoch",
        **options: Any,
    ) -> None:
        super().__init__()
        if interval not in ("epoch", "step"):
            raise ValueError(f'interval must be "epoch" or "step", got {interval!r}')
        if isinstance(network, str):
            if num_classes is None:
                raise TypeError(f"num_classes is needed to create {network!r}; it counts the background")
            self.network: Any = create_detector(network, num_classes, **options)
            self.save_hyperparameters({"network": network, "num_classes": num_classes, "interval": interval, **options})
        else:
            if num_classes is not None or options:
                given = ["num_classes"] * (num_classes is not None) + sorted(options)
                raise TypeError(
                    f"{', '.join(given)} cannot be chosen for a {type(network).__name__} that exists already"
                )
            self.network = network if isinstance(network, DetectionNetwork) else wrap_detector(network)
        self._make_optimizer = optimizer or _default_optimizer
        self._make_scheduler = scheduler
        self._interval = interval
        self.val_precision = _average_precision()
        self.test_precision = _average_precision()

    @override
    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Sum of the detector's losses."""
        images, targets = batch
        return self.learn(*self.network.transform(images, targets))

    def learn(self, images: Tensor, sizes: list[tuple[int, int]], targets: Targets | None) -> Tensor:
        """Call the network in training, log its losses and add them up.

        Args:
            images: normalized and padded, ``(N, 3, H, W)``.
            sizes: ``(height, width)`` of every image without its padding.
            targets: ground truth in pixels of ``images``.
        """
        losses = self.network(images, sizes, targets).losses
        total: Tensor = sum(losses.values())
        logged = {f"train/{name}": loss.detach() for name, loss in losses.items()}
        self.log_dict(logged, batch_size=len(images))
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(images))
        return total

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Update the average precision."""
        self._evaluate(batch, self.val_precision)

    @override
    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Update the average precision."""
        self._evaluate(batch, self.test_precision)

    @override
    def predict_step(self, batch: Any, batch_idx: int) -> Detections:
        """Detections of a batch, with or without targets, in pixels of the images."""
        with_targets = len(batch) == 2 and not isinstance(batch[0], Tensor)
        return self.detect(batch[0] if with_targets else batch)

    @override
    def on_validation_epoch_end(self) -> None:
        """Log the average precision."""
        self._log_precision(self.val_precision, "val")

    @override
    def on_test_epoch_end(self) -> None:
        """Log the average precision."""
        self._log_precision(self.test_precision, "test")

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer of the parameters that are not frozen, and scheduler."""
        trained: Iterable[nn.Parameter] = (p for p in self.network.parameters() if p.requires_grad)
        optimizer = self._make_optimizer(trained)
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self._interval}}

    def detect(self, images: Sequence[Tensor]) -> Detections:
        """Find the objects in images.

        Args:
            images: ``(3, H, W)`` in [0, 1].

        Returns:
            For every image ``boxes`` (D, 4) in its pixels, ``scores`` (D,) and ``labels`` (D,).

        Raises:
            RuntimeError: in training mode.
        """
        if self.network.training:
            raise RuntimeError(f"{type(self).__name__} is in training mode; call `.eval()` before `.detect()`")
        batch, sizes, _ = self.network.transform(images)
        originals = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        found: Detections = self.network.detect(self.network(batch, sizes), sizes)
        return list(self.network.to_original(found, sizes, originals))

    def _evaluate(self, batch: Any, precision: MeanAveragePrecision | None) -> None:
        if precision is None:
            raise ModuleNotFoundError(
                "the average precision needs faster-coco-eval or pycocotools: pip install 'lightning-kd[detection]'"
            )
        images, targets = batch
        truth = [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
        precision.update(self.detect(images), truth)

    def _log_precision(self, precision: MeanAveragePrecision | None, stage: str) -> None:
        if precision is not None:
            found = precision.compute()
            precision.reset()
            self.log_dict({f"{stage}/map": found["map"], f"{stage}/map_50": found["map_50"]}, prog_bar=True)


def _average_precision() -> MeanAveragePrecision | None:
    if RequirementCache("faster-coco-eval"):
        return MeanAveragePrecision(backend="faster_coco_eval")
    return MeanAveragePrecision(backend="pycocotools") if RequirementCache("pycocotools") else None
