"""Feature methods that know nothing of detectors, on the levels of their pyramids."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from lightning_kd.detection import DetectionNetwork, DetectionOutput, taps
from lightning_kd.detection.network import pass_through
from lightning_kd.engine.build import build_from
from lightning_kd.engine.network import find_network
from lightning_kd.engine.settings import Settings
from lightning_kd.engine.teacher import Teacher
from lightning_kd.methods.features import CWD, PKD, cwd_loss, pkd_loss

LOSSES = {CWD: cwd_loss, PKD: pkd_loss}


class FiveLevels(DetectionNetwork):
    """A pyramid of average pooling and a convolution, under no head."""

    def __init__(self, channels: int) -> None:
        super().__init__(levels=5)
        self.lateral = nn.Conv2d(3, channels, 1)

    def forward(self, images: Tensor, sizes, targets=None) -> DetectionOutput:
        maps = [self.lateral(avg_pool2d(images, 2**level)) for level in range(self.levels)]
        return DetectionOutput(pass_through(self.pyramid, maps), (images.shape[2], images.shape[3]))

    def detect(self, output, sizes):
        return []


def dry_run(method, student, teacher):
    """The method, built by the engine, and the exchange that it was built from."""
    images, sizes = torch.randn(2, 3, 32, 48), [(32, 48), (30, 40)]
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 2
    method.pairs = [] if method.layers == "auto" else list(method.layers.items())
    return build_from(
        ((images, sizes, targets), {}),
        (images, targets),
        find_network(student),
        [Teacher(teacher)],
        [method],
        Settings(),
    )


@pytest.mark.parametrize("method", LOSSES, ids=lambda method: method.__name__)
def test_the_first_four_levels(method):
    torch.manual_seed(0)
    built = method(layers=taps(levels=4))
    exchange = dry_run(built, FiveLevels(6), FiveLevels(6).eval())
    student, teacher = exchange.student.output.pyramid[:4], exchange.teacher.output.pyramid[:4]
    assert not list(built.connectors.parameters())
    torch.testing.assert_close(built(exchange), LOSSES[method](student, teacher))


@pytest.mark.parametrize("method", LOSSES, ids=lambda method: method.__name__)
def test_auto_is_the_whole_pyramid(method):
    torch.manual_seed(0)
    built = method()
    exchange = dry_run(built, FiveLevels(6), FiveLevels(6).eval())
    assert built.pairs == [(f"pyramid.{level}", f"pyramid.{level}") for level in range(5)]
    torch.testing.assert_close(
        built(exchange), LOSSES[method](exchange.student.output.pyramid, exchange.teacher.output.pyramid)
    )


@pytest.mark.parametrize("method", LOSSES, ids=lambda method: method.__name__)
def test_gradients_reach_a_narrower_student_and_its_connectors(method):
    torch.manual_seed(0)
    built, student = method(layers=taps(levels=4)), FiveLevels(4)
    exchange = dry_run(built, student, FiveLevels(6).eval())
    output = student(*exchange.inputs)
    exchange.student.features.update({f"pyramid.{level}": value for level, value in enumerate(output.pyramid)})
    built(exchange).backward()
    assert student.lateral.weight.grad.any()
    assert all(parameter.grad is not None for parameter in built.parameters())
    assert len(built.connectors) == 4
