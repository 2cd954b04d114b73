"""The compiled operators of mmcv that detectors use, from torchvision, for installations that have none compiled.

mmcv-lite is mmcv without its compiled extension, and ``import mmdet.models`` fails with it. Building mmcv needs a
compiler that fits the installed torch; torchvision has the same operators ready. Whatever it does not have says so when
it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.methods.checks import at_least_float32

_EXTENSION = "mmcv._ext"
_AVERAGE = 1


def install_ops() -> bool:
    """Let mmcv find its operators here, unless its own are compiled or these are installed already.

    Must run before the first ``import mmcv.ops``, which ``import mmdet.models`` does.

    Returns:
        Whether mmcv's operators are the ones of this module.
    """
    if find_spec(_EXTENSION) is None:
        sys.modules[_EXTENSION] = _Operators()
    return isinstance(sys.modules.get(_EXTENSION), _Operators)


class _Operators(ModuleType):
    """Stands for the extension: mmcv only asks for attributes, when it is imported and when an operator runs."""

    def __init__(self) -> None:
        super().__init__(_EXTENSION, "mmcv's operators by torchvision.")
        # without a loader mmcv itself reports that it has no compiled operators
        self.__spec__ = ModuleSpec(_EXTENSION, loader=None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _OPERATORS.get(name) or _unavailable(name)


def _unavailable(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(
            f"the operator {name!r} exists only in compiled mmcv, and the one installed here is not (mmcv-lite). "
            f"Choose a detector without it, or build mmcv with its operators (MMCV_WITH_OPS=1). "
            f"Available without: {', '.join(_OPERATORS)}."
        )

    return refuse


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of what is kept, by falling score. ``offset`` 1: a box from 0 to 9 is ten pixels wide."""
    from torchvision.ops import nms

    boxes, scores = _promoted(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0.0, 0.0, offset, offset])
    kept: Tensor = nms(boxes, scores, iou_threshold)
    return kept


def _roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    _check_average(pool_mode)
    size = (aligned_height, aligned_width)
    pooled = _torchvision().roi_align(*_promoted(features, rois), spatial_scale, *size, sampling_ratio, aligned)
    output.copy_(pooled)


def _roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    _check_average(pool_mode)
    grid = (spatial_scale, aligned_height, aligned_width)
    gradient = _torchvision()._roi_align_backward(
        *_promoted(grad_output, rois), *grid, *grad_input.shape, sampling_ratio, aligned
    )
    grad_input.add_(gradient)


def _deform_conv_forward(
    features: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    output.copy_(_torchvision().deform_conv2d(*_deform_arguments(features, weight, offset, geometry)))


def _deform_conv_backward_input(
    features: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    to_input, _, to_offset, *_ = _deform_backward(grad_output, features, weight, offset, geometry)
    grad_input.add_(to_input)
    grad_offset.add_(to_offset)


def _deform_conv_backward_parameters(
    features: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1.0,
    **geometry: int,
) -> None:
    # the weight's values do not enter its gradient, only its shape does
    to_weight = _deform_backward(grad_output, features, torch.zeros_like(grad_weight), offset, geometry)[1]
    grad_weight.add_(to_weight, alpha=scale)


def _sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    output.copy_(_focal(logits, target, weight, gamma, alpha))


def _sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        grad_input.copy_(torch.autograd.grad(_focal(leaf, target, weight, gamma, alpha).sum(), leaf)[0])


def _focal(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss ``(N, K)`` of sigmoids; the target ``K`` is the background."""
    if weight.numel():
        raise NotImplementedError("the focal loss with weights of classes needs mmcv with compiled operators")
    positive = (target[:, None] == torch.arange(logits.shape[1], device=logits.device)).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    # the probability of being wrong
    miss = torch.where(positive > 0, 1 - logits.sigmoid(), logits.sigmoid())
    return (alpha * positive + (1 - alpha) * (1 - positive)) * miss**gamma * entropy


def _deform_backward(
    grad_output: Tensor, features: Tensor, weight: Tensor, offset: Tensor, geometry: dict[str, int]
) -> Any:
    arguments = _deform_arguments(features, weight, offset, geometry)
    return _torchvision()._deform_conv2d_backward(grad_output.contiguous(), *arguments)


def _deform_arguments(features: Tensor, weight: Tensor, offset: Tensor, geometry: dict[str, int]) -> tuple[Any, ...]:
    """What torchvision's operator takes: it has a mask and a bias, which mmcv's first version has not."""
    mask, bias = features.new_zeros(len(features), 1), features.new_zeros(len(weight))
    names = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
    return features.contiguous(), weight, offset, mask, bias, *(geometry[name] for name in names), False


def _promoted(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both in at least float32, as torchvision's operators want them in mixed precision."""
    first = at_least_float32(first)
    return first, second.to(first)


def _check_average(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise NotImplementedError("RoIAlign with pool_mode='max' needs mmcv with compiled operators; use 'avg'")


def _torchvision() -> Any:
    import torchvision  # noqa: F401  # registers its operators

    return torch.ops.torchvision


_OPERATORS: dict[str, Callable[..., Any]] = {
    "nms": _nms,
    "roi_align_forward": _roi_align_forward,
    "roi_align_backward": _roi_align_backward,
    "deform_conv_forward": _deform_conv_forward,
    "deform_conv_backward_input": _deform_conv_backward_input,
    "deform_conv_backward_parameters": _deform_conv_backward_parameters,
    "sigmoid_focal_loss_forward": _sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": _sigmoid_focal_loss_backward,
}
