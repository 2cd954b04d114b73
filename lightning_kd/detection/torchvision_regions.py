"""Faster R-CNN of torchvision as a detection network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from typing_extensions import override

from lightning_kd.detection.network import Targets
from lightning_kd.detection.output import DetectionOutput, Regions
from lightning_kd.detection.precision import Precision
from lightning_kd.detection.torchvision_network import Detections, TorchvisionNetwork, anchors_of, on_images
from lightning_kd.methods.checks import at_least_float32


class TwoStageNetwork(TorchvisionNetwork):
    """A Faster R-CNN of torchvision.

    In eval mode a call runs the backbone alone; proposals and the second stage are computed when they are asked for.
    A Mask R-CNN or Keypoint R-CNN can teach, but not learn: its other heads are left out.

    Args:
        model: the torchvision model.

    Raises:
        TypeError: for another model, or one whose predictor has no linear layer ``cls_score``.
    """

    lowest_label = 1

    def __init__(self, model: FasterRCNN) -> None:
        if not isinstance(model, FasterRCNN):
            raise TypeError(f"expected a torchvision FasterRCNN, got {type(model).__name__}")
        scores = getattr(model.roi_heads.box_predictor, "cls_score", None)
        if not isinstance(scores, nn.Linear):
            raise TypeError(
                "expected a box predictor with a linear layer `cls_score`, as torchvision's FastRCNNPredictor, got "
                f"{type(model.roi_heads.box_predictor).__name__}"
            )
        super().__init__(model, len(model.rpn.anchor_generator.sizes), scores.out_features)

    @override
    def forward(self, images: Tensor, sizes: list[tuple[int, int]], targets: Targets | None = None) -> DetectionOutput:
        learns = self.training and targets is not None
        if learns:
            assert targets is not None
            self._check_heads()
            self.check_targets(targets, sizes)
        features = self.features(images)
        regions = TorchvisionRegions(self.model, features, on_images(images, sizes), self.num_classes)
        image_size = int(images.shape[-2]), int(images.shape[-1])
        losses = regions.learn(targets) if learns and targets is not None else {}
        return DetectionOutput(list(features.values()), image_size, losses, regions=regions)

    @override
    def detect(self, output: DetectionOutput, sizes: list[tuple[int, int]]) -> Detections:
        if not isinstance(output.regions, TorchvisionRegions):
            raise TypeError(f"expected the output of {type(self).__name__}, got one with regions={output.regions!r}")
        return output.regions.detect(sizes)

    def _check_heads(self) -> None:
        if self.model.roi_heads.has_mask() or self.model.roi_heads.has_keypoint():
            raise TypeError(
                f"{type(self.model).__name__} also predicts masks or keypoints, whose losses are not computed here; "
                "train a FasterRCNN, or use this model as a teacher"
            )


class TorchvisionRegions(Regions):
    """Both stages of a Faster R-CNN in one call.

    Args:
        model: the torchvision model.
        features: the pyramid's maps by torchvision's names.
        images: the padded images and their sizes.
        num_classes: number of classes, background included.
    """

    def __init__(self, model: Any, features: dict[str, Tensor], images: ImageList, num_classes: int) -> None:
        self._rpn, self._roi_heads = model.rpn, model.roi_heads
        self._features, self._images = features, images
        self._precision = Precision(images.tensors)
        self._proposed: list[Tensor] | None = None
        self.background, self.num_classes = 0, num_classes
        self.proposals = self.labels = self.embeddings = self.class_logits = self.box_regression = None

    def learn(self, targets: Targets) -> dict[str, Tensor]:
        """Torchvision's losses of both stages; keeps the sampled proposals and what became of them.

        Args:
            targets: ground truth of every image.
        """
        first_stage = self._first_stage(targets)
        assert self._proposed is not None
        sampled = self._roi_heads.select_training_samples(self._proposed, targets)
        proposals: list[Tensor] = sampled[0]
        labels: list[Tensor] = sampled[2]
        self.proposals, self.labels = proposals, torch.cat(labels)
        self.embeddings, self.class_logits, self.box_regression = self._second_stage(proposals)
        classifier, boxes = fastrcnn_loss(
            at_least_float32(self.class_logits), at_least_float32(self.box_regression), labels, sampled[3]
        )
        return {"loss_classifier": classifier, "loss_box_reg": boxes, **first_stage}

    @override
    def classify(self, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        if len(proposals) != len(self._images.image_sizes):
            raise ValueError(
                f"expected one tensor of proposals for each of {len(self._images.image_sizes)} images, got "
                f"{len(proposals)}; an image without any gets an empty one, of shape (0, 4)"
            )
        embeddings, logits, _ = self._second_stage(proposals)
        return embeddings, logits

    @override
    @torch.no_grad()
    def propose(self) -> list[Tensor]:
        if self._proposed is None:
            self._first_stage(None)
            assert self._proposed is not None
        return list(self._proposed)

    def detect(self, sizes: list[tuple[int, int]]) -> Detections:
        """Detections among the network's own proposals.

        Args:
            sizes: ``(height, width)`` of every image without its padding.
        """
        proposals = self.propose()
        _, logits, offsets = self._second_stage(proposals)
        found = self._roi_heads.postprocess_detections(
            at_least_float32(logits), at_least_float32(offsets), proposals, sizes
        )
        return [
            {"boxes": boxes, "scores": scores, "labels": labels} for boxes, scores, labels in zip(*found, strict=True)
        ]

    def _first_stage(self, targets: Targets | None) -> dict[str, Tensor]:
        """Make proposals as torchvision's region proposal network does, but with anchors in full precision."""
        rpn, maps = self._rpn, list(self._features.values())
        with self._precision.again():
            objectness, offsets = rpn.head(maps)
        anchors = anchors_of(rpn.anchor_generator, self._images, maps)
        per_level = [value[0].numel() for value in objectness]
        objectness, offsets = map(at_least_float32, concat_box_prediction_layers(objectness, offsets))
        boxes = rpn.box_coder.decode(offsets.detach(), anchors).view(len(anchors), -1, 4)
        self._proposed, _ = rpn.filter_proposals(boxes, objectness, self._images.image_sizes, per_level)
        if targets is None:
            return {}
        labels, matched = rpn.assign_targets_to_anchors(anchors, targets)
        objectness_loss, box_loss = rpn.compute_loss(
            objectness, offsets, labels, rpn.box_coder.encode(matched, anchors)
        )
        return {"loss_objectness": objectness_loss, "loss_rpn_box_reg": box_loss}

    def _second_stage(self, proposals: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        heads = self._roi_heads
        with self._precision.again():
            pooled = heads.box_roi_pool(self._features, proposals, self._images.image_sizes)
            embeddings: Tensor = heads.box_head(pooled)
            logits, offsets = heads.box_predictor(embeddings)
        return embeddings, logits, offsets
