"""RetinaNet and FCOS of torchvision as detection networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet
from typing_extensions import override

from lightning_kd.detection.network import Targets, pass_through
from lightning_kd.detection.output import Branch, Dense, DetectionOutput
from lightning_kd.detection.precision import Precision
from lightning_kd.detection.torchvision_network import Detections, TorchvisionNetwork, anchors_of, on_images
from lightning_kd.detection.torchvision_tower import branch_of, run_branch, tower_depth
from lightning_kd.methods.checks import at_least_float32


@dataclass(frozen=True)
class HeadMaps:
    """What a head made of the pyramid; see :class:`~lightning_kd.detection.output.Dense`."""

    class_logits: list[Tensor]
    box_regression: list[Tensor]
    centerness: list[Tensor] | None
    towers: dict[Branch, list[list[Tensor]]]


class OneStageNetwork(TorchvisionNetwork):
    """A RetinaNet or FCOS of torchvision.

    Without gradients the head, a good part of the work, runs when its maps are asked for: methods that compare pyramids
    never do that to the teacher.

    Args:
        model: the torchvision model.

    Raises:
        TypeError: for another model, or one whose head is not built like torchvision's.
    """

    def __init__(self, model: RetinaNet | FCOS) -> None:
        if not isinstance(model, RetinaNet | FCOS):
            raise TypeError(f"expected a torchvision RetinaNet or FCOS, got {type(model).__name__}")
        tower_depth(model.head)
        num_classes = model.head.classification_head.num_classes
        super().__init__(model, len(model.anchor_generator.sizes), num_classes)

    @override
    def forward(self, images: Tensor, sizes: list[tuple[int, int]], targets: Targets | None = None) -> DetectionOutput:
        learns = self.training and targets is not None
        if learns:
            assert targets is not None
            self.check_targets(targets, sizes)
        pyramid = list(self.features(images).values())
        run_head = partial(self._run_head, pyramid, self.keep_towers)
        dense = TorchvisionDense(
            self.model,
            run_head,
            pyramid,
            anchors_of(self.model.anchor_generator, on_images(images, sizes), pyramid),
            (int(images.shape[-2]), int(images.shape[-1])),
            targets,
        )
        if torch.is_grad_enabled() or self._is_tapped():
            dense.maps = run_head()
        losses = dense.compute_losses() if learns else {}
        return DetectionOutput(pyramid, dense.image_size, losses, dense=dense)

    def _run_head(self, pyramid: list[Tensor], keep: bool) -> HeadMaps:
        head = self.model.head
        classes = run_branch(head.classification_head, pyramid, keep=keep)
        boxes = run_branch(head.regression_head, pyramid, keep=keep)
        return HeadMaps(
            pass_through(self.classification, classes.predictions),
            pass_through(self.regression, boxes.predictions),
            boxes.centerness or None,
            {"classification": classes.towers, "regression": boxes.towers} if keep else {},
        )

    def _is_tapped(self) -> bool:
        """Whether anybody waits for the head's layers to run."""
        head = (self.model.head, self.classification, self.regression)
        return any(layer._forward_hooks or layer._forward_pre_hooks for part in head for layer in part.modules())

    @override
    def detect(self, output: DetectionOutput, sizes: list[tuple[int, int]]) -> Detections:
        if not isinstance(output.dense, TorchvisionDense):
            raise TypeError(f"expected the output of {type(self).__name__}, got one with dense={output.dense!r}")
        anchors = output.dense.anchors
        # views of joined tensors, as in torchvision: where tensors begin in memory can decide the last bit of a score
        predictions = {
            name: list(torch.split(value, [len(level) for level in anchors], dim=1))
            for name, value in output.dense.predictions().items()
        }
        found: Detections = self.model.postprocess_detections(predictions, [anchors] * len(sizes), sizes)
        return found


class TorchvisionDense(Dense):
    """The head of a RetinaNet or FCOS in one call.

    Args:
        model: the torchvision model.
        run_head: makes the head's maps.
        pyramid: the maps that the head is given.
        anchors: of every image, over all levels.
        image_size: ``(H, W)`` of the padded images.
        targets: ground truth of every image, or ``None``.
    """

    def __init__(
        self,
        model: Any,
        run_head: Callable[[], HeadMaps],
        pyramid: list[Tensor],
        anchors: list[Tensor],
        image_size: tuple[int, int],
        targets: Targets | None,
    ) -> None:
        self._model, self._run_head, self._targets = model, run_head, targets
        self._precision = Precision(pyramid[0])
        self._image_anchors = anchors
        self.image_size = image_size
        self.kind = "fcos" if isinstance(model, FCOS) else "retinanet"
        self.num_classes = model.head.classification_head.num_classes
        self.anchors_per_position = model.head.classification_head.num_anchors
        sizes = [value.shape[2] * value.shape[3] * self.anchors_per_position for value in pyramid]
        self.anchors = list(torch.split(anchors[0], sizes))
        self.strides = [image_size[0] // value.shape[2] for value in pyramid]
        self.tower_depth = tower_depth(model.head)

    @cached_property
    def maps(self) -> HeadMaps:
        """The head's maps, made when they are asked for unless they exist."""
        with torch.no_grad(), self._precision.again():
            return self._run_head()

    @cached_property
    def class_logits(self) -> list[Tensor]:  # type: ignore[override]
        """See :class:`~lightning_kd.detection.output.Dense`."""
        return self.maps.class_logits

    @cached_property
    def box_regression(self) -> list[Tensor]:  # type: ignore[override]
        """See :class:`~lightning_kd.detection.output.Dense`."""
        return self.maps.box_regression

    @cached_property
    def centerness(self) -> list[Tensor] | None:  # type: ignore[override]
        """See :class:`~lightning_kd.detection.output.Dense`."""
        return self.maps.centerness

    @cached_property
    def towers(self) -> dict[Branch, list[list[Tensor]]]:  # type: ignore[override]
        """See :class:`~lightning_kd.detection.output.Dense`."""
        return self.maps.towers

    @cached_property
    def assigned(self) -> list[Tensor] | None:  # type: ignore[override]  # made when asked for: a teacher rarely is
        """For every image the ground-truth box of every position, or a negative number for none."""
        if self._targets is None:
            return None
        with torch.no_grad():
            extra = [[len(level) for level in self.anchors]] if self.kind == "fcos" else []
            model = type(self._model)
            matched: list[Tensor] = model.compute_loss(
                _Matching(self._model), self._targets, {}, self._image_anchors, *extra
            )
        return matched

    def compute_losses(self) -> dict[str, Tensor]:
        """Torchvision's losses of these predictions."""
        losses: dict[str, Tensor] = self._model.head.compute_loss(
            self._targets, self.predictions(), self._image_anchors, self.assigned
        )
        return losses

    def predictions(self) -> dict[str, Tensor]:
        """What torchvision's head returns: over all levels ``(N, sum of P, K)``, ``(N, sum of P, 4)`` and so on."""
        found = {
            "cls_logits": _over_levels(self.class_logits, self.num_classes),
            "bbox_regression": _over_levels(self.box_regression, 4),
        }
        if self.centerness is not None:
            found["bbox_ctrness"] = _over_levels(self.centerness, 1)
        return found

    @override
    def finish(self, branch: Branch, done: int, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        if not 0 <= done <= self.tower_depth:
            raise ValueError(f"done must be from 0 to {self.tower_depth}, the depth of the tower, got {done}")
        part = branch_of(self._model.head, branch)
        dtype = next(part.parameters()).dtype
        with self._precision.again():
            # a method may have raised the other network's features to float32
            maps = run_branch(part, [feature.to(dtype) for feature in features], done=done)
        return maps.predictions, maps.centerness or None

    @override
    def decode(self, box_regression: list[Tensor]) -> list[Tensor]:
        return [
            self._decode(at_least_float32(_by_position(value, 4)), anchors)
            for value, anchors in zip(box_regression, self.anchors, strict=True)
        ]

    def _decode(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        if self.kind == "fcos":
            boxes: Tensor = self._model.box_coder.decode(offsets, anchors)
            return boxes
        boxes = self._model.box_coder.decode_single(offsets.flatten(0, 1), anchors.repeat(len(offsets), 1))
        return boxes.view(offsets.shape)


class _Matching:
    """Stands in for the model in torchvision's ``compute_loss``, which matches positions and calls the head's losses.

    Its head returns the matches. So they are torchvision's own, whatever its version matches by.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.head = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def compute_loss(
        self, targets: Targets, head_outputs: Any, anchors: Sequence[Tensor], matched_idxs: list[Tensor]
    ) -> list[Tensor]:
        """Return the matches."""
        return matched_idxs


def _by_position(value: Tensor, width: int) -> Tensor:
    """``(N, A*width, H, W)`` to ``(N, H*W*A, width)``, as torchvision does it."""
    batch, _, height, columns = value.shape
    value = value.view(batch, -1, width, height, columns).permute(0, 3, 4, 1, 2)
    return value.reshape(batch, -1, width)


def _over_levels(maps: Sequence[Tensor], width: int) -> Tensor:
    return at_least_float32(torch.cat([_by_position(value, width) for value in maps], dim=1))
