"""Stages and classifiers are found in networks nobody wrote for distillation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import ResNetLike
from torch import nn

from lightning_kd.engine.attach import Patches
from lightning_kd.engine.network import Network
from lightning_kd.engine.stages import align, anatomy
from lightning_kd.engine.taps import Recorder


def shapes(network: nn.Module, size: int) -> tuple[dict[str, tuple[int, ...]], str | None]:
    """Tap shapes without the batch, and the classifier's name."""
    x = torch.randn(2, 3, size, size)
    found = anatomy(network, lambda: network(x))
    patches = Patches()
    recorder = Recorder(Network("", network, False), [*found.stages, str(found.penultimate)], with_grad=False)
    recorder.install(patches)
    network.eval()
    recorder.start()
    with torch.no_grad():
        network(x)
    features = recorder.take()[0].features
    patches.undo()
    return {name: tuple(value.shape[1:]) for name, value in features.items()}, found.classifier


RESNET = {"layer1": (64, 16, 16), "layer2": (128, 8, 8), "layer3": (256, 4, 4), "layer4": (512, 2, 2)}
CONVNEXT = {"features.1": (96, 16, 16), "features.3": (192, 8, 8), "features.5": (384, 4, 4), "features.7": (768, 2, 2)}
MOBILENET = {
    "features.1": (16, 32, 32),
    "features.3": (24, 16, 16),
    "features.6": (32, 8, 8),
    "features.13": (96, 4, 4),
    "features.18": (1280, 2, 2),
}
SWIN = {
    "features.1:nhwc": (96, 16, 16),
    "features.3:nhwc": (192, 8, 8),
    "features.5:nhwc": (384, 4, 4),
    "features.7:nhwc": (768, 2, 2),
}
VIT = {f"encoder.layers.encoder_layer_{index}": (5, 768) for index in (2, 5, 8, 11)}


@pytest.mark.parametrize(
    ("name", "options", "stages", "classifier"),
    [
        ("resnet18", {}, RESNET, "fc"),
        ("convnext_tiny", {}, CONVNEXT, "classifier.2"),
        ("mobilenet_v2", {}, MOBILENET, "classifier.1"),
        ("swin_t", {}, SWIN, "head"),
        ("vit_b_32", {"image_size": 64}, VIT, "heads.head"),
    ],
)
def test_torchvision(name: str, options: dict[str, Any], stages: dict[str, Any], classifier: str) -> None:
    models = pytest.importorskip("torchvision").models
    found, head = shapes(models.get_model(name, weights=None, **options), 64)
    assert head == classifier
    assert found.pop(f"{classifier}:input") is not None
    assert found == stages


@pytest.mark.parametrize(
    ("name", "size", "stages"),
    [
        ("resnet18", 64, list(RESNET)),
        ("convnext_atto", 64, [f"stages.{index}" for index in range(4)]),
        ("deit_tiny_patch16_224", 224, ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]),
        ("swin_tiny_patch4_window7_224", 224, [f"layers.{index}:nhwc" for index in range(4)]),
    ],
)
def test_timm(name: str, size: int, stages: list[str]) -> None:
    network = pytest.importorskip("timm").create_model(name)
    x = torch.randn(1, 3, size, size)
    assert anatomy(network, lambda: network(x)).stages == stages


def test_a_plain_stack_of_layers() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )
    found, classifier = shapes(network, 8)
    assert found == {"1": (4, 8, 8), "4": (8, 4, 4), "7:input": (8,)}
    assert classifier == "7"


def test_a_network_may_name_its_stages() -> None:
    network = ResNetLike()
    network.distillation_stages = ("layer1.bn2", "layer3")
    assert anatomy(network, lambda: network(torch.randn(2, 3, 8, 8))).stages == ["layer1.bn2", "layer3"]


def test_looking_leaves_no_trace() -> None:
    network = ResNetLike()
    network.layer2.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    anatomy(network, lambda: network(torch.ones(2, 3, 8, 8)))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    assert not network.layer2.training
    assert not any(layer._forward_hooks for layer in network.modules())


def test_stages_are_paired_from_the_deepest() -> None:
    assert align(["a", "b"], ["x", "y", "z"]) == [("a", "y"), ("b", "z")]
    assert align([], ["x"]) == []
