"""The second stage of mmdet's two-stage detectors, step by step, so that a method can look at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.detection.mmdet.samples import instances, scalar_losses
from lightning_kd.detection.output import Regions
from lightning_kd.detection.precision import Precision


def check_second_stage(model: nn.Module) -> None:
    """See whether :class:`MMDetectionRegions` can run a detector.

    Raises:
        ValueError: if it has no first stage of its own, or a second stage of another make.
    """
    roi_head: Any = model.roi_head
    if type(roi_head).__name__ != "StandardRoIHead" or not isinstance(roi_head.bbox_head, nn.Module):
        raise ValueError(
            f"cannot distil mmdet's two-stage detectors with a {type(roi_head).__name__}; take one with a "
            "StandardRoIHead, such as Faster R-CNN"
        )
    if getattr(model, "rpn_head", None) is None or not hasattr(roi_head.bbox_head, "fc_cls"):
        raise ValueError(
            f"cannot distil this {type(model).__name__}: expected a region proposal network (`rpn_head`) and a box "
            "head that ends with `fc_cls`"
        )


class MMDetectionRegions(Regions):
    """A second stage of mmdet in one call; see :class:`~lightning_kd.detection.output.Regions`.

    Nothing runs before it is asked for: a frozen teacher without a call to :meth:`classify` or :meth:`propose` has run
    its backbone and its neck only.

    Args:
        model: a detector that passed :func:`check_second_stage`.
        pyramid: the neck's maps.
        infos: of every image, as mmdet's heads take them.
        label_offset: a label of our targets minus that of mmdet.
    """

    def __init__(self, model: Any, pyramid: Sequence[Tensor], infos: list[dict[str, Any]], label_offset: int) -> None:
        self.model, self.infos, self._pyramid = model, infos, tuple(pyramid)
        self.background = model.roi_head.bbox_head.num_classes
        self.num_classes = self.background + 1
        self.label_offset = -label_offset
        self.proposals = self.labels = self.embeddings = self.class_logits = self.box_regression = None
        self._proposed: list[Any] | None = None
        self._precision = Precision(self._pyramid[0])

    def learn(self, truth: list[Any]) -> dict[str, Tensor]:
        """Run both stages in training: propose, sample, classify.

        Args:
            truth: ``InstanceData`` of every image.

        Returns:
            The losses of both stages.
        """
        first, self._proposed = self._first_stage(truth)
        samples = self._sample(truth)
        proposals = [sample.priors for sample in samples]
        self.embeddings, logits, offsets, rois = self._second_stage(proposals)
        self.proposals, self.class_logits, self.box_regression = proposals, logits, offsets
        second = self.model.roi_head.bbox_head.loss_and_target(
            logits, offsets, rois, samples, self.model.roi_head.train_cfg
        )
        self.labels = second["bbox_targets"][0]
        return first | scalar_losses(second["loss_bbox"])

    @override
    def classify(self, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        with self._precision.again():
            embeddings, logits, _, _ = self._second_stage(proposals)
        return embeddings, logits

    @override
    @torch.no_grad()
    def propose(self) -> list[Tensor]:
        if self._proposed is None:
            head = self.model.rpn_head
            with self._precision.again():
                self._proposed = head.predict_by_feat(*head(self._pyramid), batch_img_metas=self.infos)
        return [found.bboxes for found in self._proposed]

    def detect(self, infos: list[dict[str, Any]]) -> list[Any]:
        """What the second stage predicts, in pixels of the padded images."""
        proposals, roi_head = self.propose(), self.model.roi_head
        proposed = instances(proposals, [boxes.new_zeros(len(boxes)) for boxes in proposals])
        found: list[Any] = roi_head.predict_bbox(self._pyramid, infos, proposed, roi_head.test_cfg, rescale=False)
        return found

    def _first_stage(self, truth: list[Any]) -> tuple[dict[str, Tensor], list[Any]]:
        """The losses and the proposals of the region proposal network, for which every object is of one class."""
        head, model = self.model.rpn_head, self.model
        predictions = head(self._pyramid)
        objects = instances([one.bboxes for one in truth], [torch.zeros_like(one.labels) for one in truth])
        losses = head.loss_by_feat(*predictions, objects, self.infos)
        settings = model.train_cfg.get("rpn_proposal", model.test_cfg.rpn)
        proposed = head.predict_by_feat(*predictions, batch_img_metas=self.infos, cfg=settings)
        return scalar_losses(losses), proposed

    def _sample(self, truth: list[Any]) -> list[Any]:
        roi_head = self.model.roi_head
        samples = []
        for image, (boxes, known) in enumerate(zip(self.propose(), truth, strict=True)):
            priors = instances([boxes], [boxes.new_zeros(len(boxes))])[0]
            priors.priors = priors.pop("bboxes")
            assignment = roi_head.bbox_assigner.assign(priors, known, None)
            features = [level[image][None] for level in self._pyramid]
            samples.append(roi_head.bbox_sampler.sample(assignment, priors, known, feats=features))
        return samples

    def _second_stage(self, proposals: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings, class logits, box regression, and the proposals with the number of their image."""
        roi_head = self.model.roi_head
        rois = torch.cat(
            [torch.cat([boxes.new_full((len(boxes), 1), image), boxes], dim=1) for image, boxes in enumerate(proposals)]
        )
        embeddings: list[Tensor] = []
        handle = roi_head.bbox_head.fc_cls.register_forward_pre_hook(lambda _, args: embeddings.append(args[0]))
        try:
            found = roi_head._bbox_forward(self._pyramid, rois)
        finally:
            handle.remove()
        return embeddings[0], found["cls_score"], found["bbox_pred"], rois
