"""Our detection networks against the torchvision models inside them, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_detectors import batch, small_detector
from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from lightning_kd.detection import wrap_detector

NAMES = ["retinanet_resnet18_fpn", "fcos_resnet18_fpn", "fasterrcnn_resnet18_fpn", "retinanet_resnet18_fpn_v2"]
SLOWER = ["fasterrcnn_resnet18_fpn_v2", "fasterrcnn_mobilenet_v2_fpn", "retinanet_mobilenet_v2_fpn"]
ALL = [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)]


class OneMap(nn.Module):
    """A backbone that returns a tensor, as a user may write it."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))

    def forward(self, x):
        return self.layers(x)


def users_own(kind: str) -> Any:
    torch.manual_seed(3)
    anchors = AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),))
    if kind == "retinanet":
        return RetinaNet(OneMap(), 4, anchor_generator=anchors, min_size=64, max_size=96, score_thresh=0.009)
    pool = MultiScaleRoIAlign(["0"], 3, 2)
    return FasterRCNN(
        OneMap(),
        4,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        min_size=64,
        max_size=96,
        box_batch_size_per_image=16,
    )


def assert_same_training(network: Any, images: Any, targets: Any, *, keep_towers: bool = False) -> None:
    theirs = copy.deepcopy(network.model).train()
    network.train()
    network.keep_towers = keep_towers
    torch.manual_seed(5)
    expected = theirs(copy.deepcopy(images), copy.deepcopy(targets))
    after = torch.rand(3)
    torch.manual_seed(5)
    losses = network(*network.transform(images, targets)).losses
    assert torch.equal(torch.rand(3), after), "random numbers were drawn differently"
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        assert loss.item() == expected[name].item(), name
    sum(expected.values()).backward()
    sum(losses.values()).backward()
    gradients = dict(theirs.named_parameters())
    assert sum(value.grad is not None for value in gradients.values()) > 10
    for name, parameter in network.model.named_parameters():
        assert (parameter.grad is None) == (gradients[name].grad is None), name
        assert parameter.grad is None or torch.equal(parameter.grad, gradients[name].grad), name
    buffers = dict(theirs.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in network.model.named_buffers())


@pytest.mark.parametrize("name", ALL)
def test_losses_gradients_and_statistics_are_torchvisions(name: str):
    assert_same_training(small_detector(name, min_size=(48, 64, 80)), *batch((0, 1, 2)))


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_images_without_objects(name: str, counts: tuple[int, int]):
    samples = [batch((seed,), boxes=count) for seed, count in enumerate(counts)]
    images, targets = [image for images, _ in samples for image in images], [t for _, ts in samples for t in ts]
    assert_same_training(small_detector(name), images, targets)


@pytest.mark.parametrize("name", ["retinanet_resnet18_fpn", "retinanet_resnet18_fpn_v2", "fcos_resnet18_fpn"])
def test_kept_towers_change_nothing(name: str):
    assert_same_training(small_detector(name), *batch(), keep_towers=True)


@pytest.mark.parametrize("kind", ["retinanet", "fasterrcnn"])
def test_a_model_that_the_user_built(kind: str):
    network = wrap_detector(users_own(kind))
    assert network.levels == 1
    assert_same_training(network, *batch())
    assert_same_detections(network.eval(), batch()[0])


@pytest.mark.parametrize("name", ALL)
def test_detections_are_torchvisions(name: str):
    options = {"box_score_thresh": 0.2} if name.startswith("faster") else {"score_thresh": 0.009}
    assert_same_detections(small_detector(name, **options).eval(), batch((0, 1, 2))[0])


@torch.no_grad()
def assert_same_detections(network: Any, images: Any) -> None:
    expected = network.model(images)
    tensors, sizes, _ = network.transform(images)
    found = network.detect(network(tensors, sizes), sizes)
    originals = [tuple(image.shape[-2:]) for image in images]
    moved = network.to_original(found, sizes, originals)
    assert any(not torch.equal(a["boxes"], b["boxes"]) for a, b in zip(found, moved, strict=True))
    assert len(moved) == len(images)
    assert sum(len(item["boxes"]) for item in moved) > 10
    for ours, theirs in zip(moved, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
