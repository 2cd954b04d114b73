"""The detectors of the protocols, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from typing_extensions import override

from kd_bench.errors import UserError
from kd_bench.names import unknown
from lightning_kd.detection import DetectionNetwork
from lightning_kd.detection.torchvision_dense import OneStageNetwork
from lightning_kd.detection.torchvision_models import create_detector
from lightning_kd.detection.torchvision_regions import TwoStageNetwork

_PYRAMID = 64
_GROUPS = 8
_POOLED, _EMBEDDING = 5, 128
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_EXAMPLE = (96, 128)
_TORCHVISION = "torchvision:"
MMDET = "mmdet:"
"""Prefix of the names of mmdet's configs."""


class _Block(nn.Module):
    """Two convolutions with a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    @override
    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        found: Tensor = self.relu(out + self.shortcut(x))
        return found


class SmallBackbone(nn.Module):
    """A residual network with a feature pyramid of strides 8, 16 and 32, or from 4 on.

    Args:
        width: channels at stride 4; twice, four and eight times as many at the next strides.
        blocks: residual blocks at each of the four strides.
        channels: of the pyramid.
        finest: whether the pyramid begins at stride 4.
    """

    def __init__(self, width: int, blocks: Sequence[int], channels: int = _PYRAMID, *, finest: bool = False) -> None:
        super().__init__()
        self._first = 0 if finest else 1
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        widths = [width * 2**stage for stage in range(4)]
        self.stages = nn.ModuleList(
            _stage(before, after, count)
            for before, after, count in zip([width, *widths[:-1]], widths, blocks, strict=True)
        )
        self.fpn = FeaturePyramidNetwork(widths[self._first :], channels)
        self.out_channels = channels

    @override
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map images ``(N, 3, H, W)`` to the pyramid's maps, finest first."""
        value = self.stem(images)
        maps = {}
        for position, stage in enumerate(self.stages):
            value = stage(value)
            if position >= self._first:
                maps[str(position - self._first)] = value
        found: dict[str, Tensor] = self.fpn(maps)
        return found


def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    first = _Block(channels_in, channels, 2)
    return nn.Sequential(first, *(_Block(channels, channels, 1) for _ in range(blocks - 1)))


def _transform(options: dict[str, Any]) -> dict[str, Any]:
    usual = {"min_size": _EXAMPLE[0], "max_size": _EXAMPLE[1], "image_mean": _MEAN, "image_std": _STD}
    return {**usual, **options}


def _small_retinanet(num_classes: int, *, width: int, blocks: Sequence[int], **options: Any) -> DetectionNetwork:
    sizes = tuple((size, int(size * 1.4)) for size in (12, 24, 40))
    anchors = AnchorGenerator(sizes, ((0.75, 1.4),) * len(sizes))
    # torchvision's initial weights, meant for 256 channels, make the features vanish in a head without normalization
    head = RetinaNetHead(
        _PYRAMID, anchors.num_anchors_per_location()[0], num_classes, norm_layer=partial(nn.GroupNorm, _GROUPS)
    )
    return OneStageNetwork(
        RetinaNet(SmallBackbone(width, blocks), num_classes, anchor_generator=anchors, head=head, **_transform(options))
    )


def _small_fcos(num_classes: int, *, width: int, blocks: Sequence[int], **options: Any) -> DetectionNetwork:
    anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    return OneStageNetwork(
        FCOS(SmallBackbone(width, blocks), num_classes, anchor_generator=anchors, **_transform(options))
    )


def _small_faster_rcnn(num_classes: int, *, width: int, blocks: Sequence[int], **options: Any) -> DetectionNetwork:
    anchors = AnchorGenerator(((10,), (16,), (26,), (42,)), ((0.75, 1.4),) * 4)
    model = FasterRCNN(
        SmallBackbone(width, blocks, finest=True),
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(_PYRAMID, anchors.num_anchors_per_location()[0]),
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=400,
        rpn_post_nms_top_n_test=200,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(list("0123"), output_size=_POOLED, sampling_ratio=2, canonical_scale=80),
        box_head=TwoMLPHead(_PYRAMID * _POOLED**2, _EMBEDDING),
        box_predictor=FastRCNNPredictor(_EMBEDDING, num_classes),
        box_batch_size_per_image=64,
        **_transform(options),
    )
    return TwoStageNetwork(model)


_SMALL: dict[str, Callable[..., DetectionNetwork]] = {
    "small_retinanet_8": partial(_small_retinanet, width=8, blocks=(1, 1, 1, 1)),
    "small_retinanet_24": partial(_small_retinanet, width=24, blocks=(1, 2, 2, 2)),
    "small_fcos_8": partial(_small_fcos, width=8, blocks=(1, 1, 1, 1)),
    "small_fcos_24": partial(_small_fcos, width=24, blocks=(1, 2, 2, 2)),
    "small_fasterrcnn_8": partial(_small_faster_rcnn, width=8, blocks=(1, 1, 1, 1)),
    "small_fasterrcnn_24": partial(_small_faster_rcnn, width=24, blocks=(1, 2, 2, 2)),
}


# in code, since a config that extends one of mmdet's by its name needs setuptools' pkg_resources, which is gone
_DERIVED: dict[str, tuple[str, dict[str, Any]]] = {
    "gfl_r18_fpn_1x_coco": (
        "gfl_r50_fpn_1x_coco",
        {
            "model.backbone.depth": 18,
            "model.backbone.init_cfg.checkpoint": "torchvision://resnet18",
            "model.neck.in_channels": [64, 128, 256, 512],
        },
    )
}
"""Name of a config that mmdet lacks → the one it is like, and what differs."""


def create_network(name: str, num_classes: int, **options: Any) -> DetectionNetwork:
    """The detector ``name``, with random weights unless ``options`` say otherwise.

    Args:
        name: one of :func:`list_networks`, or ``torchvision:`` and a name that
            :func:`lightning_kd.detection.torchvision_models.create_detector` knows, or ``mmdet:`` and the name of one
            of mmdet's configs.
        num_classes: number of classes, background included.
        options: further constructor arguments; of mmdet's detectors those of :func:`_mmdet`.

    Raises:
        UserError: for an unknown name, or options that the network cannot have.
    """
    if name.startswith(_TORCHVISION):
        try:
            return create_detector(name.removeprefix(_TORCHVISION), num_classes, **options)
        except ValueError as error:
            raise UserError(str(error)) from error
    if name.startswith(MMDET):
        return _mmdet(name.removeprefix(MMDET), num_classes, **options)
    if name not in _SMALL:
        raise unknown("detector", name, [*list_networks(), f"{_TORCHVISION}retinanet_resnet18_fpn"])
    return _SMALL[name](num_classes, **options)


def _mmdet(
    config: str,
    num_classes: int,
    *,
    min_size: int | Sequence[int] = 800,
    max_size: int = 1333,
    pretrained: bool = False,
    checkpoint: str | None = None,
) -> DetectionNetwork:
    """A detector of mmdet.

    Args:
        config: name of one of mmdet's configs, or of :data:`_DERIVED`.
        num_classes: number of classes, background included.
        min_size: the shorter side of images; of several, one is drawn for every batch in training.
        max_size: the longer side at most.
        pretrained: whether to start from the backbone that the config names, which may be downloaded.
        checkpoint: file with the weights of the whole detector.
    """
    try:
        from lightning_kd.detection.mmdet import MMDetectionNetwork, load_config, load_model

        base, changes = _DERIVED.get(config, (config, {}))
        content = load_config(base)
        content.merge_from_dict(changes)
        model = load_model(content, checkpoint, num_classes=num_classes - 1, pretrained=pretrained)
        sizes = [min_size] if isinstance(min_size, int) else min_size
        return MMDetectionNetwork(model, scale=[(max_size, size) for size in sizes])
    except (ImportError, ValueError) as error:
        raise UserError(f"{MMDET}{config}: {error}") from error


def list_networks() -> list[str]:
    """The names of the small detectors for a CPU."""
    return list(_SMALL)
