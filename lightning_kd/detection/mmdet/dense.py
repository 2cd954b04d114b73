"""Heads of mmdet's one-stage detectors: towers, predictions, assignment and boxes, each from the head's own parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.detection.mmdet.samples import scalar_losses
from lightning_kd.detection.output import BACKGROUND, IGNORED, Branch, Dense
from lightning_kd.detection.precision import Precision

BRANCHES: tuple[Branch, Branch] = ("classification", "regression")

_Predictions = tuple[Tensor, Tensor | None]
_Predict = Callable[[Any, int, Tensor], _Predictions]


def kind_of(head: nn.Module) -> str:
    """``Dense.kind`` of a head.

    Raises:
        ValueError: if it is none of those whose parts are known here, or if its classes share a softmax.
    """
    name = type(head).__name__
    if name not in _KINDS:
        raise ValueError(
            f"cannot distil mmdet's {name}: one-stage heads that can be are {', '.join(_KINDS)}, and of two-stage "
            "detectors those with a StandardRoIHead (Faster R-CNN)"
        )
    if not head.use_sigmoid_cls:
        raise ValueError(f"cannot distil a {name} whose classes share a softmax; set `use_sigmoid=True` in `loss_cls`")
    return _KINDS[name][0]


class MMDetectionDense(Dense):
    """A head of mmdet in one call; see :class:`~lightning_kd.detection.output.Dense`.

    For FCOS, ``box_regression`` are distances from the points in pixels, or with ``norm_on_bbox`` in strides, in
    training and in evaluation alike.

    Args:
        head: ``RetinaHead``, ``FCOSHead``, ``GFLHead`` or ``ATSSHead``.
        pyramid: the neck's maps.
        infos: of every image, as mmdet's heads take them.
        truth: makes ``InstanceData`` of every image, once it is asked for; or ``None``.
        keep_towers: whether to keep what :attr:`Dense.towers` holds.
        tap: called with the branch and its predictions; returns what to use in their place.
    """

    def __init__(
        self,
        head: Any,
        pyramid: Sequence[Tensor],
        infos: list[dict[str, Any]],
        truth: Callable[[], list[Any]] | None,
        *,
        keep_towers: bool,
        tap: Callable[[Branch, list[Tensor]], list[Tensor]],
    ) -> None:
        self.head, self.infos, self._make_truth = head, infos, truth
        self.kind = kind_of(head)
        self.num_classes, self.anchors_per_position = head.cls_out_channels, head.num_base_priors
        self.tower_depth = len(head.cls_convs)
        self._precision = Precision(pyramid[0])
        self.strides = [int(stride[0]) for stride in head.prior_generator.strides]
        self.towers = {branch: [] for branch in BRANCHES} if keep_towers else {}
        (classes, from_classes), (boxes, from_boxes) = (
            self._run(branch, 0, list(pyramid), self.towers.get(branch)) for branch in BRANCHES
        )
        self.class_logits, self.box_regression = tap("classification", classes), tap("regression", boxes)
        self.centerness = from_classes or from_boxes

    @cached_property
    def truth(self) -> list[Any] | None:
        """``InstanceData`` of every image, or ``None``."""
        return None if self._make_truth is None else self._make_truth()

    @cached_property
    def anchors(self) -> list[Tensor]:  # type: ignore[override]  # computed when a method asks
        """See :class:`~lightning_kd.detection.output.Dense`."""
        sizes, device = self._grid()
        priors = self.head.prior_generator.grid_priors(sizes, device=device)
        if self.kind != "fcos":
            return list(priors)
        halves = [stride / 2 for stride in self.strides]
        return [torch.cat([point - half, point + half], dim=1) for point, half in zip(priors, halves, strict=True)]

    @cached_property
    def assigned(self) -> list[Tensor] | None:  # type: ignore[override]  # computed when a method asks
        """See :class:`~lightning_kd.detection.output.Dense`."""
        if self.truth is None:
            return None
        # heads tell the label that they assign, not the box: with a label of its own for every box, that is the same
        numbered = [_numbered(truth) for truth in self.truth]
        sizes, device = self._grid()
        if self.kind == "fcos":
            points = self.head.prior_generator.grid_priors(sizes, device=device)
            labels = [level.reshape(len(numbered), -1) for level in self.head.get_targets(points, numbered)[0]]
            weights = [torch.ones_like(level, dtype=torch.float32) for level in labels]
        else:
            anchors, flags = self.head.get_anchors(sizes, self.infos, device=device)
            found = self.head.get_targets(anchors, flags, numbered, self.infos)
            # these heads return their anchors first
            labels, weights = found[1:3] if self.kind in ("gfl", "atss") else found[:2]
        label, weight = torch.cat(list(labels), dim=1), torch.cat(list(weights), dim=1)
        box = torch.where(label < 0, -1 - label, torch.where(weight > 0, BACKGROUND, IGNORED))
        return list(box)

    @override
    def finish(self, branch: Branch, done: int, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        with self._precision.again():
            return self._run(branch, done, features)

    @override
    def decode(self, box_regression: list[Tensor]) -> list[Tensor]:
        levels = zip(self.anchors, box_regression, self.strides, strict=True)
        return [self._boxes(anchors, regression, stride) for anchors, regression, stride in levels]

    def losses(self) -> dict[str, Tensor]:
        """Those of the head's own loss function."""
        return scalar_losses(self.head.loss_by_feat(*self._outputs(self.box_regression), self.truth, self.infos))

    def detect(self, infos: list[dict[str, Any]]) -> list[Any]:
        """What the head's own prediction returns, in pixels of the padded images."""
        regression = self.box_regression
        if getattr(self.head, "norm_on_bbox", False):
            regression = [level * stride for level, stride in zip(regression, self.strides, strict=True)]
        found: list[Any] = self.head.predict_by_feat(*self._outputs(regression), batch_img_metas=infos, rescale=False)
        return found

    def _outputs(self, regression: list[Tensor]) -> tuple[list[Tensor], ...]:
        return (self.class_logits, regression, *([] if self.centerness is None else [self.centerness]))

    def _grid(self) -> tuple[list[tuple[int, int]], torch.device]:
        return [(level.shape[-2], level.shape[-1]) for level in self.class_logits], self.class_logits[0].device

    def _run(
        self, branch: Branch, done: int, features: list[Tensor], kept: list[list[Tensor]] | None = None
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        tower = self.head.cls_convs if branch == "classification" else self.head.reg_convs
        for layer in list(tower)[done:]:
            if kept is None:
                features = [layer(value) for value in features]
            else:
                kept.append([layer(value, activate=False) for value in features])
                # activations may work in place
                features = [layer.activate(value.clone()) for value in kept[-1]]
        _, classes, boxes = _KINDS[type(self.head).__name__]
        predict = classes if branch == "classification" else boxes
        found = [predict(self.head, level, value) for level, value in enumerate(features)]
        centerness = [value for _, value in found if value is not None]
        return [value for value, _ in found], centerness or None

    def _boxes(self, anchors: Tensor, regression: Tensor, stride: int) -> Tensor:
        images, channels = regression.shape[0], regression.shape[1] // self.anchors_per_position
        rows = regression.permute(0, 2, 3, 1).reshape(-1, channels)
        where = anchors.repeat(images, 1)
        if self.kind in ("gfl", "fcos"):
            where = (where[:, :2] + where[:, 2:]) / 2
            rows = self.head.integral(rows) if self.kind == "gfl" else rows
            rows = rows * stride if self.kind == "gfl" or self.head.norm_on_bbox else rows
        boxes: Tensor = self.head.bbox_coder.decode(where, rows)
        return boxes.reshape(images, -1, 4)


def _numbered(truth: Any) -> Any:
    copy = truth.clone()
    copy.labels = -1 - torch.arange(len(truth.labels), device=truth.labels.device)
    return copy


def _retina_classes(head: Any, level: int, value: Tensor) -> _Predictions:
    return head.retina_cls(value), None


def _retina_boxes(head: Any, level: int, value: Tensor) -> _Predictions:
    return head.retina_reg(value), None


def _fcos_classes(head: Any, level: int, value: Tensor) -> _Predictions:
    return head.conv_cls(value), None if head.centerness_on_reg else head.conv_centerness(value)


def _fcos_boxes(head: Any, level: int, value: Tensor) -> _Predictions:
    scaled = head.scales[level](head.conv_reg(value)).float()
    distances = scaled.clamp(min=0) if head.norm_on_bbox else scaled.exp()
    return distances, head.conv_centerness(value) if head.centerness_on_reg else None


def _gfl_classes(head: Any, level: int, value: Tensor) -> _Predictions:
    return head.gfl_cls(value), None


def _gfl_boxes(head: Any, level: int, value: Tensor) -> _Predictions:
    return head.scales[level](head.gfl_reg(value)).float(), None


def _atss_classes(head: Any, level: int, value: Tensor) -> _Predictions:
    return head.atss_cls(value), None


def _atss_boxes(head: Any, level: int, value: Tensor) -> _Predictions:
    return head.scales[level](head.atss_reg(value)).float(), head.atss_centerness(value)


_KINDS: dict[str, tuple[str, _Predict, _Predict]] = {
    "RetinaHead": ("retinanet", _retina_classes, _retina_boxes),
    "FCOSHead": ("fcos", _fcos_classes, _fcos_boxes),
    "GFLHead": ("gfl", _gfl_classes, _gfl_boxes),
    "ATSSHead": ("atss", _atss_classes, _atss_boxes),
}
"""Head → kind, and what it predicts from the towers' outputs, the centerness second."""
