"""The towers of torchvision's one-stage heads, convolution by convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetRegressionHead

from lightning_kd.detection.output import Branch

_KNOWN = (RetinaNetClassificationHead, RetinaNetRegressionHead, FCOSClassificationHead, FCOSRegressionHead)


@dataclass
class BranchMaps:
    """What one branch of a head made of the pyramid, one map a level.

    Attributes:
        predictions: ``(N, A*K, H_l, W_l)`` or ``(N, A*4, H_l, W_l)``.
        centerness: ``(N, A, H_l, W_l)``; empty for branches without it.
        towers: ``towers[i][level]``: convolution ``i`` before its activation; empty unless kept.
    """

    predictions: list[Tensor] = field(default_factory=list)
    centerness: list[Tensor] = field(default_factory=list)
    towers: list[list[Tensor]] = field(default_factory=list)


def branch_of(head: Any, branch: Branch) -> Any:
    """The sub-module of a head that is one branch."""
    return head.classification_head if branch == "classification" else head.regression_head


def tower_depth(head: Any) -> int:
    """Number of convolutions in each tower.

    Raises:
        TypeError: for a head that is not built and run like torchvision's.
        ValueError: if the two towers differ in depth.
    """
    depths = []
    branches: tuple[Branch, ...] = ("classification", "regression")
    for branch in branches:
        part = getattr(head, f"{branch}_head", None)
        if not any(isinstance(part, known) and type(part).forward is known.forward for known in _KNOWN):
            raise TypeError(
                f"expected the {branch} branch of a torchvision RetinaNet or FCOS head, got {type(part).__name__}; "
                "wrap a detector with another head in your own lightning_kd.detection.DetectionNetwork"
            )
        depths.append(len(_steps(branch_of(head, branch).conv)))
    if depths[0] != depths[1]:
        raise ValueError(f"expected towers of the same depth, got {depths[0]} and {depths[1]} convolutions")
    return depths[0]


def run_branch(part: Any, features: Sequence[Tensor], *, done: int = 0, keep: bool = False) -> BranchMaps:
    """Run a branch as torchvision does: one level after another, through the tower and the prediction layers.

    Args:
        part: the branch's module.
        features: one map a level, after the activation of the tower's convolution ``done - 1``.
        done: how many convolutions of the tower to leave out.
        keep: whether to keep what the convolutions put out before their activations.
    """
    steps = _steps(part.conv)[done:]
    maps = BranchMaps(towers=[[] for _ in steps] if keep else [])
    for feature in features:
        if keep or done:
            hidden = feature
            for position, layers in enumerate(steps):
                for layer in layers[:-1]:
                    hidden = layer(hidden)
                if keep:
                    maps.towers[position].append(hidden)
                hidden = _activate(layers[-1], hidden, keep)
        else:
            hidden = part.conv(feature)
        _predict(part, hidden, maps)
    return maps


def _activate(activation: nn.Module, hidden: Tensor, keep: bool) -> Tensor:
    if keep and getattr(activation, "inplace", False):
        hidden = hidden.clone()
    activated: Tensor = activation(hidden)
    return activated


def _predict(part: Any, hidden: Tensor, maps: BranchMaps) -> None:
    if hasattr(part, "cls_logits"):
        maps.predictions.append(part.cls_logits(hidden))
    elif hasattr(part, "bbox_ctrness"):
        maps.predictions.append(nn.functional.relu(part.bbox_reg(hidden)))
        maps.centerness.append(part.bbox_ctrness(hidden))
    else:
        maps.predictions.append(part.bbox_reg(hidden))


def _steps(tower: nn.Module) -> list[list[nn.Module]]:
    """The tower's layers, cut before every convolution; the last layer of a step is its activation."""
    steps: list[list[nn.Module]] = []
    for layer in _leaves(tower):
        if isinstance(layer, nn.Conv2d):
            steps.append([])
        steps[-1].append(layer)
    for step in steps:
        if len(step) < 2 or not isinstance(step[-1], nn.ReLU):
            raise TypeError(
                "expected every convolution of a head's tower to be followed by a ReLU, got "
                f"{[type(layer).__name__ for layer in step]}"
            )
    return steps


def _leaves(module: nn.Module) -> list[nn.Module]:
    if not isinstance(module, nn.Sequential):
        return [module]
    return [leaf for child in module for leaf in _leaves(child)]
