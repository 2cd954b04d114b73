"""Detectors made by name."""

from __future__ import annotations

import sys
from subprocess import run
from typing import Any

import pytest
import torch
import torchvision
from small_detectors import batch, small_detector
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from lightning_kd.detection import create_detector

KINDS = ["retinanet", "fasterrcnn", "fcos"]
BACKBONES = [
    "resnet18",
    "mobilenet_v2",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet34", "resnet50", "resnet101")),
]


def on_meta(*args: Any, **options: Any) -> Any:
    """A detector of full size, without memory for its weights."""
    with torch.device("meta"):
        return create_detector(*args, **options)


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_every_backbone(kind: str, backbone: str):
    network = on_meta(f"{kind}_{backbone}_fpn", 7)
    assert (network.levels, network.num_classes) == (5, 7)
    images = torch.zeros(1, 3, 128, 256, device="meta")
    pyramid = network.model.backbone(images)
    first = 4 if kind == "fasterrcnn" else 8
    expected = [(1, 256, 128 // (first * 2**level), 256 // (first * 2**level)) for level in range(5)]
    assert [tuple(value.shape) for value in pyramid.values()] == expected
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "retinanet_resnet50_fpn_v2",
        "fasterrcnn_resnet50_fpn",
        pytest.param("retinanet_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("fasterrcnn_resnet50_fpn_v2", marks=pytest.mark.slow),
        pytest.param("fcos_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_names_of_torchvision_make_torchvisions_architecture(name: str):
    network = on_meta(name, 91)
    with torch.device("meta"):
        expected = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=91)
    assert shapes(network.model) == shapes(expected)

    def layers(model: nn.Module) -> list[str]:
        return [str(layer) for layer in model.modules() if not list(layer.children())]

    assert layers(network.model) == [text.replace("FrozenBatchNorm2d", "BatchNorm2d") for text in layers(expected)] or (
        layers(network.model) == layers(expected)
    )
    generator = getattr(expected, "anchor_generator", None) or expected.rpn.anchor_generator
    ours = getattr(network.model, "anchor_generator", None) or network.model.rpn.anchor_generator
    assert (ours.sizes, ours.aspect_ratios) == (generator.sizes, generator.aspect_ratios)
    if name.startswith("retinanet"):
        assert network.model.head.regression_head._loss_type == expected.head.regression_head._loss_type


def norms(network: nn.Module) -> set[type]:
    kinds = (nn.BatchNorm2d, FrozenBatchNorm2d)
    return {type(layer) for layer in network.model.backbone.modules() if isinstance(layer, kinds)}


@pytest.fixture
def backbone_weights(tmp_path, monkeypatch):
    """ImageNet weights of a ResNet-18 where torchvision keeps what it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(11)
    state = torchvision.models.resnet18(weights=None).state_dict()
    target = tmp_path / "hub" / "checkpoints" / torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    target.parent.mkdir(parents=True)
    torch.save(state, target)
    return state


def test_batch_normalization_is_frozen_with_weights_alone(backbone_weights):
    assert norms(small_detector("retinanet_resnet18_fpn")) == {nn.BatchNorm2d}
    network = small_detector("retinanet_resnet18_fpn", backbone_weights="DEFAULT")
    assert norms(network) == {FrozenBatchNorm2d}
    body = network.model.backbone.body
    assert torch.equal(body.layer3[0].conv1.weight, backbone_weights["layer3.0.conv1.weight"])
    improved = small_detector("retinanet_resnet18_fpn_v2", backbone_weights="IMAGENET1K_V1")
    assert norms(improved) == {nn.BatchNorm2d}


@pytest.mark.parametrize(("trainable", "frozen"), [(None, 2), (5, 0), (4, 1), (0, 5)])
def test_the_first_stages_of_a_pretrained_backbone_are_frozen(backbone_weights, trainable, frozen: int):
    body = small_detector(
        "fasterrcnn_resnet18_fpn", backbone_weights="DEFAULT", trainable_layers=trainable
    ).model.backbone.body
    stages = [body.conv1, body.layer1, body.layer2, body.layer3, body.layer4]
    learning = [all(parameter.requires_grad for parameter in stage.parameters()) for stage in stages]
    assert learning == [False] * frozen + [True] * (5 - frozen)


@pytest.mark.parametrize(("trainable", "first"), [(5, 0), (4, 2), (3, 4), (1, 14), (0, 18)])
def test_stages_of_mobilenet_end_where_its_stride_changes(trainable: int, first: int):
    body = small_detector("retinanet_mobilenet_v2_fpn", trainable_layers=trainable).model.backbone.body
    learning = [int(name) for name, block in body.items() if all(p.requires_grad for p in block.parameters())]
    assert learning == list(range(first, 18))


@pytest.mark.slow
def test_weights_of_a_whole_detector_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    weights = torchvision.models.get_model_weights(name).DEFAULT
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=91)
    target = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    target.parent.mkdir(parents=True)
    torch.save(model.state_dict(), target)
    network = create_detector(name, 91, weights="DEFAULT", min_size=64, max_size=96)
    assert norms(network) == {FrozenBatchNorm2d}
    # frozen normalization counts no batches
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert wanted.keys() == network.model.state_dict().keys()
    assert all(torch.equal(value, wanted[key]) for key, value in network.model.state_dict().items())
    images, _ = batch()
    with torch.no_grad():
        tensors, sizes, _ = network.eval().transform(images)
        assert len(network(tensors, sizes).pyramid) == network.levels == 3


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("yolo_resnet18_fpn", 4), {}, "unknown detector 'yolo_resnet18_fpn'"),
        (("retinanet_vgg16_fpn", 4), {}, "resnet18, resnet34"),
        (("fcos_resnet18_fpn_v2", 4), {}, "only for retinanet and fasterrcnn"),
        (("fcos_resnet18_fpn", 4), {"pyramid_channels": 40}, "multiple of 32"),
        (("retinanet_resnet18_fpn", 4), {"anchor_sizes": (8, 16)}, "each of 5 levels"),
        (("retinanet_resnet18_fpn", 4), {"trainable_layers": 6}, "from 0 to 5, got 6"),
        (("retinanet_resnet18_fpn", 91), {"weights": "DEFAULT"}, "no weights for 'retinanet_resnet18_fpn'"),
        (("retinanet_resnet50_fpn", 4), {"weights": "DEFAULT"}, "num_classes=91, background included, got 4"),
        (
            ("fcos_resnet50_fpn", 91),
            {"weights": "DEFAULT", "pyramid_channels": 64},
            "pyramid_channels cannot be chosen",
        ),
    ],
)
def test_what_cannot_be_made(arguments: tuple[Any, ...], options: dict[str, Any], message: str):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_detector(*arguments, **options)


@pytest.mark.slow
def test_torchvision_is_imported_only_when_a_detector_is_asked_for():
    code = (
        "import sys, lightning_kd.detection as d; loaded = 'torchvision.models' in sys.modules; d.Detector;"
        "print(loaded, 'torchvision.models' in sys.modules)"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
