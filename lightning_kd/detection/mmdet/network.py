"""Detectors of mmdet behind the call that is distilled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.detection.mmdet.dense import MMDetectionDense, kind_of
from lightning_kd.detection.mmdet.regions import MMDetectionRegions, check_second_stage
from lightning_kd.detection.mmdet.samples import Sizes, detections, ground_truth_instances, image_infos
from lightning_kd.detection.mmdet.transform import DEFAULT_SCALE, Scale, as_scales, resize_boxes, transform_batch
from lightning_kd.detection.network import DetectionNetwork, Targets, pass_through
from lightning_kd.detection.output import Branch, DetectionOutput


class MMDetectionNetwork(DetectionNetwork):
    """A detector of mmdet: RetinaNet, FCOS, GFL, ATSS, or a two-stage detector such as Faster R-CNN.

    Losses are those of mmdet's own functions. Labels count from ``label_offset`` in targets and detections, and from 0
    in mmdet. What mmdet would ignore (crowds) does not reach it. Masks are neither trained nor predicted.

    A teacher gets the student's images as they are: both must have been trained with the same normalization and channel
    order. In mmdet, detectors with ``caffe`` in their names differ from others in this.

    Args:
        model: what :func:`~lightning_kd.detection.mmdet.load.load_model` returns, or your own.
        label_offset: the label of the first class: 1 where 0 is the background, as in torchvision.
        scale: for :meth:`transform`: the longer side of images at most, and the shorter, in pixels. Of a list of them,
            one is drawn for every batch in training, by torch's random numbers; else the last is taken.

    Attributes:
        model: the detector.
        num_classes: number of classes, without the background.
        label_offset: the label of the first class.
        scales: the sizes of transformed images.

    Raises:
        ValueError: if the detector is of another kind.
    """

    def __init__(self, model: nn.Module, label_offset: int = 1, scale: Scale | Sequence[Scale] = DEFAULT_SCALE) -> None:
        head: Any = getattr(model, "bbox_head", None)
        roi_head: Any = getattr(model, "roi_head", None)
        self._check(model, head)
        first: Any = head if head is not None else model.rpn_head
        super().__init__(levels=int(first.prior_generator.num_levels))
        self.model: Any = model
        self.label_offset, self.scales = label_offset, as_scales(scale)
        classifier: Any = head if head is not None else roi_head.bbox_head
        self.num_classes = int(classifier.num_classes)
        self.divisor = int(getattr(self.model.data_preprocessor, "pad_size_divisor", 1))

    @override
    def forward(self, images: Tensor, sizes: Sizes, targets: Targets | None = None) -> DetectionOutput:
        image_size = int(images.shape[-2]), int(images.shape[-1])
        pyramid = pass_through(self.pyramid, self.model.extract_feat(images))
        infos = image_infos(sizes, image_size, self.divisor)
        truth = None if targets is None else partial(self._truth, targets)
        output = DetectionOutput(pyramid, image_size)
        if getattr(self.model, "bbox_head", None) is not None:
            output.dense = dense = MMDetectionDense(
                self.model.bbox_head, pyramid, infos, truth, keep_towers=self.keep_towers, tap=self._tap
            )
            if self.training and truth is not None:
                output.losses = dense.losses()
        else:
            output.regions = regions = MMDetectionRegions(self.model, pyramid, infos, self.label_offset)
            if self.training and truth is not None:
                output.losses = regions.learn(truth())
        return output

    def transform(
        self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None
    ) -> tuple[Tensor, Sizes, Targets | None]:
        """Resize, normalize and pad images as the detector's config says.

        Args:
            images: ``(3, H, W)`` in [0, 1], RGB, of any sizes.
            targets: ``boxes`` in pixels and ``labels`` of every image; they are not changed.

        Returns:
            The arguments of the network.
        """
        return transform_batch(images, targets, self.model.data_preprocessor, self._scale())

    def to_original(
        self, detections: Sequence[dict[str, Tensor]], sizes: Sizes, original_sizes: Sizes
    ) -> list[dict[str, Tensor]]:
        """Bring boxes from the pixels of the transformed images to those of the originals.

        Args:
            detections: as :meth:`detect` returns them.
            sizes: ``(height, width)`` of the transformed images without their padding.
            original_sizes: ``(height, width)`` of the originals.
        """
        images = zip(detections, sizes, original_sizes, strict=True)
        return [{**found, "boxes": resize_boxes(found["boxes"], size, original)} for found, size, original in images]

    @override
    def detect(self, output: DetectionOutput, sizes: Sizes) -> list[dict[str, Tensor]]:
        head = output.dense if output.dense is not None else output.regions
        if not isinstance(head, MMDetectionDense | MMDetectionRegions):
            raise ValueError(f"expected an output of this network, got one of {type(head).__name__}")
        return detections(head.detect(image_infos(sizes, output.image_size, self.divisor)), self.label_offset)

    def _scale(self) -> Scale:
        if not self.training or len(self.scales) == 1:
            return self.scales[-1]
        return self.scales[int(torch.randint(len(self.scales), ()))]

    def _truth(self, targets: Targets) -> list[Any]:
        return ground_truth_instances(targets, self.num_classes, self.label_offset)

    def _tap(self, branch: Branch, maps: list[Tensor]) -> list[Tensor]:
        return pass_through(self.classification if branch == "classification" else self.regression, maps)

    @staticmethod
    def _check(model: nn.Module, head: nn.Module | None) -> None:
        if head is not None:
            kind_of(head)
        elif getattr(model, "roi_head", None) is not None:
            check_second_stage(model)
        else:
            raise ValueError(
                f"cannot distil mmdet's {type(model).__name__}: expected a one-stage detector (`bbox_head`) or a "
                "two-stage detector (`rpn_head` and `roi_head`)"
            )
