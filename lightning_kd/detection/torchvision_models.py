"""Detectors of torchvision by name: a kind, a backbone, a feature pyramid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import torchvision
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead

from lightning_kd.detection.torchvision_backbones import BACKBONES, pyramid_backbone
from lightning_kd.detection.torchvision_dense import OneStageNetwork
from lightning_kd.detection.torchvision_network import TorchvisionNetwork
from lightning_kd.detection.torchvision_regions import TwoStageNetwork

_NAME = re.compile(rf"(retinanet|fasterrcnn|fcos)_({'|'.join(BACKBONES)})_fpn(_v2)?")
_ANCHORS = {"retinanet": (32, 64, 128, 256, 512), "fasterrcnn": (32, 64, 128, 256, 512), "fcos": (8, 16, 32, 64, 128)}
_GROUPS = 32


def create_detector(
    name: str,
    num_classes: int,
    weights: Any = None,
    backbone_weights: Any = None,
    *,
    pyramid_channels: int = 256,
    anchor_sizes: Sequence[int] | None = None,
    head_width: int = 1024,
    trainable_layers: int | None = None,
    **options: Any,
) -> TorchvisionNetwork:
    """Make a detector.

    Without pretrained weights the backbone has ordinary batch normalization. With them it is frozen, as torchvision
    does it: a batch of detection is too small to estimate statistics from. In the ``_v2`` models, which torchvision
    trained with ordinary batch normalization, it is never frozen.

    Args:
        name: ``retinanet``, ``fasterrcnn`` or ``fcos``, then the backbone (``resnet18``, ``resnet34``, ``resnet50``,
            ``resnet101`` or ``mobilenet_v2``), then ``fpn``, for example ``"retinanet_resnet18_fpn"``. With ``_v2`` at
            the end, RetinaNet and Faster R-CNN are those that torchvision improved. With ``weights``, any of the three
            that torchvision ships.
        num_classes: number of classes, background included, as torchvision counts: 91 with weights for COCO.
        weights: weights of the whole detector, downloaded by torchvision: ``"DEFAULT"``, a name or a member of the
            model's ``WeightsEnum``.
        backbone_weights: weights of the backbone on ImageNet, ``"DEFAULT"`` or as torchvision names them.
        pyramid_channels: channels of the pyramid's maps.
        anchor_sizes: size of the anchors of each level of the pyramid, in pixels.
        head_width: width of a Faster R-CNN's box head.
        trainable_layers: how many stages of a pretrained backbone are trained, from the last of five; by default 3.
        **options: handed to torchvision's class, for example ``min_size`` and ``max_size``.

    Raises:
        ValueError: for an unknown name, or options that the pretrained model cannot have.
    """
    if weights is not None:
        changed = {"pyramid_channels": pyramid_channels != 256, "anchor_sizes": anchor_sizes is not None}
        changed |= {"head_width": head_width != 1024, "backbone_weights": backbone_weights is not None}
        return _pretrained(
            name, num_classes, weights, trainable_layers, [key for key in changed if changed[key]], options
        )
    found = _NAME.fullmatch(name)
    if found is None or (found[1] == "fcos" and found[3]):
        raise ValueError(
            f"unknown detector {name!r}; expected retinanet, fasterrcnn or fcos, a backbone ({', '.join(BACKBONES)}) "
            'and fpn, for example "retinanet_resnet18_fpn", with _v2 at the end only for retinanet and fasterrcnn'
        )
    kind, improved = found[1], found[3] is not None
    if pyramid_channels % _GROUPS and (kind == "fcos" or improved):
        raise ValueError(
            f"pyramid_channels must be a multiple of {_GROUPS}, the groups of {name}'s normalization, got "
            f"{pyramid_channels}"
        )
    backbone = pyramid_backbone(
        found[2],
        weights=backbone_weights,
        channels=pyramid_channels,
        first_stride=4 if kind == "fasterrcnn" else 8,
        freezes_statistics=backbone_weights is not None and not improved,
        extra_levels_from_body=kind == "retinanet" and improved,
        normalized=kind == "fasterrcnn" and improved,
        trainable_layers=trainable_layers,
    )
    sizes = _ANCHORS[kind] if anchor_sizes is None else tuple(anchor_sizes)
    if len(sizes) != len(_ANCHORS[kind]):
        raise ValueError(f"expected a size of the anchors for each of {len(_ANCHORS[kind])} levels, got {sizes}")
    anchors = _anchors(kind, sizes)
    if kind == "fcos":
        return OneStageNetwork(FCOS(backbone, num_classes, anchor_generator=anchors, **options))
    if kind == "retinanet":
        return OneStageNetwork(_retinanet(backbone, num_classes, anchors, improved, options))
    return TwoStageNetwork(_faster_rcnn(backbone, num_classes, anchors, improved, head_width, options))


def wrap_detector(model: nn.Module) -> TorchvisionNetwork:
    """Put a torchvision detector behind the call that is distilled.

    Args:
        model: a RetinaNet, FCOS, Faster R-CNN or a subclass.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(model, TorchvisionNetwork):
        return model
    if isinstance(model, RetinaNet | FCOS):
        return OneStageNetwork(model)
    if isinstance(model, FasterRCNN):
        return TwoStageNetwork(model)
    raise TypeError(
        f"expected a RetinaNet, FCOS or FasterRCNN of torchvision, got {type(model).__name__}; write a "
        "lightning_kd.detection.DetectionNetwork for other detectors"
    )


def _pretrained(
    name: str, num_classes: int, weights: Any, trainable_layers: int | None, changed: list[str], options: dict[str, Any]
) -> TorchvisionNetwork:
    shipped = [
        known
        for known in torchvision.models.list_models(torchvision.models.detection)
        if known.startswith(("retinanet", "fasterrcnn", "fcos"))
    ]
    if name not in shipped:
        raise ValueError(f"torchvision has no weights for {name!r}; it has them for {', '.join(shipped)}")
    if changed:
        raise ValueError(
            f"with weights, {', '.join(changed)} cannot be chosen: the weights belong to torchvision's {name}"
        )
    enum = torchvision.models.get_model_weights(name)
    chosen = enum[weights.removeprefix(f"{enum.__name__}.")] if isinstance(weights, str) else weights
    classes = len(chosen.meta["categories"])
    if num_classes != classes:
        raise ValueError(f"the weights of {name} are for num_classes={classes}, background included, got {num_classes}")
    model = torchvision.models.get_model(
        name, weights=chosen, weights_backbone=None, trainable_backbone_layers=trainable_layers, **options
    )
    return wrap_detector(model)


def _anchors(kind: str, sizes: Sequence[int]) -> AnchorGenerator:
    if kind == "fcos":
        return AnchorGenerator(tuple((size,) for size in sizes), ((1.0,),) * len(sizes))
    octaves = (0, 1 / 3, 2 / 3) if kind == "retinanet" else (0,)
    per_level = tuple(tuple(int(size * 2**octave) for octave in octaves) for size in sizes)
    return AnchorGenerator(per_level, ((0.5, 1.0, 2.0),) * len(sizes))


def _retinanet(
    backbone: nn.Module, num_classes: int, anchors: AnchorGenerator, improved: bool, options: dict[str, Any]
) -> RetinaNet:
    head = None
    if improved:
        per_position = anchors.num_anchors_per_location()[0]
        head = RetinaNetHead(backbone.out_channels, per_position, num_classes, partial(nn.GroupNorm, _GROUPS))
        head.regression_head._loss_type = "giou"
    return RetinaNet(backbone, num_classes, anchor_generator=anchors, head=head, **options)


def _faster_rcnn(
    backbone: Any, num_classes: int, anchors: AnchorGenerator, improved: bool, width: int, options: dict[str, Any]
) -> FasterRCNN:
    channels, pooled = backbone.out_channels, 7
    if improved:
        rpn_head = RPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=2)
        box_head = FastRCNNConvFCHead((channels, pooled, pooled), [channels] * 4, [width], norm_layer=nn.BatchNorm2d)
    else:
        rpn_head, box_head = None, TwoMLPHead(channels * pooled**2, width)
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=rpn_head,
        box_head=box_head,
        box_predictor=FastRCNNPredictor(width, num_classes),
        **options,
    )
