"""ND for two-stage detectors: align the embeddings of proposals with their classes, and match the classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.stack import Connector
from lightning_kd.detection.output import DetectionOutput, Regions
from lightning_kd.detection.truth import ground_truth
from lightning_kd.engine.dry_run import quiet
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, full_precision
from lightning_kd.methods.detection._boxes import box_iou
from lightning_kd.methods.detection._heads import region_stage, same_regions, sampled
from lightning_kd.methods.features.nd import nd_loss
from lightning_kd.methods.logits.kd import kd_loss

_NAME = "NDDet"
_BACKGROUND_IOU = 0.5


class NDDet(DistillationMethod):
    r""":func:`~lightning_kd.functional.nd_loss` plus :func:`~lightning_kd.functional.kd_loss` between second stages.

    .. math:: w_\mathrm{ND}\, \mathcal L_\mathrm{ND}(s, t, c, y) + w_\mathrm{KD}\, \mathcal L_\mathrm{KD}(z^s, z^t)

    The embeddings :math:`s` and :math:`t` are the box heads' outputs, :math:`c` the class means, :math:`z` the class
    logits at temperature 1, and :math:`y` the labels of the student's sampled proposals, background included. Each
    network pools its own features there. Both must be two-stage detectors of the same classes; a student whose
    embeddings have another width goes through a linear layer, which serves this loss only.

    The class means come from one pass over the training set, the teacher in eval mode: the mean embedding of the
    ground-truth boxes of every class, and for the background that of the teacher's own proposals whose IoU with every
    ground-truth box is below 0.5. The authors' code reads class means from a file; what enters them may differ.

    The paper adds it to its loss on pyramids ("ReviewKD++"): ``[NDDet(…), ReviewKDDet(…)]``.

    Args:
        nd_weight: weight of norm and direction; the authors use 1.5 for ResNet-18, 1 for ResNet-50 and MobileNetV2.
        kd_weight: weight of the divergence between the classes.
        background_per_image: how many of the teacher's proposals, at most, enter the background's mean from one image;
            the first that :meth:`~lightning_kd.detection.Regions.propose` gives.
        weight: factor in the total loss.

    Raises:
        ValueError: if a weight is negative or both are 0, or if ``background_per_image`` is not positive.
    """

    citation = Citation(
        "Improving Knowledge Distillation via Regularizing Feature Norm and Direction",
        "Wang et al.",
        "arXiv",
        2023,
        "2305.17007",
    )
    aliases = ("KD++Det", "NDDetection")
    needs_target = True
    has_setup_pass = True

    projector: Connector
    class_means: Tensor

    def __init__(
        self,
        nd_weight: float = 1.0,
        kd_weight: float = 1.0,
        background_per_image: int = 32,
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight)
        if min(nd_weight, kd_weight) < 0 or not nd_weight + kd_weight > 0:
            raise ValueError(
                "nd_weight and kd_weight must not be negative, and one of them must be positive, got "
                f"{nd_weight} and {kd_weight}"
            )
        if background_per_image < 1:
            raise ValueError(f"background_per_image must be at least 1, got {background_per_image}")
        self.nd_weight, self.kd_weight, self.background_per_image = nd_weight, kd_weight, background_per_image
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    def build(self, context: BuildContext) -> None:
        """Create the projector, if widths differ, and the class means, zeros until the setup pass.

        Raises:
            ValueError: if the networks are no two-stage detectors of the same classes.
        """
        student, teacher = same_regions(context.exchange, _NAME)
        with quiet(context.student, *context.teachers):
            inputs = _width(student, context.exchange.student.output)
            width = _width(teacher, context.exchange.teacher.output)
        self.projector = Connector(*[nn.Linear(inputs, width)] if inputs != width else [])
        self.register_buffer("class_means", torch.zeros(teacher.num_classes, width))

    def observe(self, exchange: Exchange) -> None:
        """Add the teacher's embeddings of ground truth and background to the sums of their classes."""
        teacher, truth = region_stage(exchange, "teacher", _NAME), ground_truth(exchange)
        boxes, classes = [], []
        for own, labels, proposals in zip(truth.boxes, truth.labels, teacher.propose(), strict=True):
            background = _apart(proposals, own)[: self.background_per_image]
            boxes.append(torch.cat([own.to(background).reshape(-1, 4), background]))
            classes += [_indices(labels, teacher), labels.new_full((len(background),), teacher.background)]
        embeddings = at_least_float32(teacher.classify(boxes)[0].detach())
        chosen = F.one_hot(torch.cat(classes).to(embeddings.device), teacher.num_classes).to(embeddings.dtype)
        with full_precision(embeddings):
            sums, counts = chosen.T @ embeddings, chosen.sum(0)
        self._sums = sums if self._sums is None else self._sums + sums
        self._counts = counts if self._counts is None else self._counts + counts

    def finish_setup(self) -> None:
        """Turn the sums into means; a class without a box keeps the zero vector, and with it the loss 1."""
        if self._sums is not None and self._counts is not None:
            self.class_means.copy_(self._sums / self._counts.clamp(min=1)[:, None])
        self._sums = self._counts = None

    def forward(self, exchange: Exchange) -> Tensor:
        """The weighted sum of both losses; 0 where the student sampled no proposal at all."""
        student, teacher = same_regions(exchange, _NAME)
        proposals, labels, embeddings, logits = sampled(student, _NAME)
        projected = self.projector(embeddings)
        if not len(labels):
            return at_least_float32(projected).sum() + at_least_float32(logits).sum()
        with torch.no_grad():
            teacher_embeddings, teacher_logits = teacher.classify(proposals)
        direction = nd_loss(projected, teacher_embeddings, self.class_means, labels)
        return self.nd_weight * direction + self.kd_weight * kd_loss(logits, teacher_logits, temperature=1.0)


def _width(regions: Regions, output: DetectionOutput) -> int:
    """Width of the embeddings: sampled ones are missing in eval mode, so the whole image is looked at."""
    height, width = output.image_size
    maps = output.pyramid[0]
    image = at_least_float32(maps).new_tensor([[0.0, 0.0, width, height]])
    embeddings, _ = regions.classify([image] * maps.shape[0])
    return embeddings.shape[-1]


def _apart(proposals: Tensor, boxes: Tensor) -> Tensor:
    """The proposals that cover no ground-truth box."""
    overlaps = box_iou(proposals[:, None], boxes.to(proposals).reshape(-1, 4))
    return proposals[(overlaps < _BACKGROUND_IOU).all(1)]


def _indices(labels: Tensor, regions: Regions) -> Tensor:
    """Classes of the second stage for labels of the ground truth."""
    classes = labels + regions.label_offset
    if len(classes) and not (int(classes.min()) >= 0 and int(classes.max()) < regions.num_classes):
        raise ValueError(
            f"NDDet expected ground-truth labels of the teacher's {regions.num_classes} classes, background included, "
            f"got labels from {int(labels.min())} to {int(labels.max())}; number the classes of the data set as the "
            "detectors do"
        )
    return classes
