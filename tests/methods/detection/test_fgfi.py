import pytest
import torch
import torch.nn.functional as F
from methods.detection.pyramid_references import (
    AWKWARD,
    assert_agree,
    boxes_of,
    built,
    exchange_of,
    maps,
    pyramids,
    slow_fgfi,
)

from lightning_kd.methods.detection import FGFI, fgfi_loss
from lightning_kd.testing.scenes import TinyDetector, scene_batch

SHAPES = ((2, 3, 4, 5), (2, 3, 2, 3))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def anchors(height: int, width: int, stride: int, *, sizes=((1, 1), (2, 1))) -> torch.Tensor:
    """Two anchors a position, in the order row, column, anchor."""
    found = []
    for row in range(height):
        for column in range(width):
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            found += [(x - w * stride, y - h * stride, x + w * stride, y + h * stride) for w, h in sizes]
    return torch.tensor(found, dtype=torch.float64)


LEVELS = (anchors(4, 5, 8), anchors(2, 3, 16))


@pytest.mark.parametrize("situation", AWKWARD)
@pytest.mark.parametrize("threshold", [0.5, 0.0])
def test_matches_a_loop(situation, threshold):
    boxes = boxes_of(situation)
    shapes = [(len(boxes), *shape[1:]) for shape in SHAPES]
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    arguments = (student, teacher, LEVELS, boxes, threshold)
    assert_agree(fgfi_loss(*arguments), slow_fgfi(*arguments), student)


def test_far_positions_do_not_matter():
    student, teacher = maps((1, 3, 4, 5), grad=True), maps((1, 3, 4, 5))
    fgfi_loss(student, teacher, LEVELS[:1], [torch.tensor([[0.0, 0.0, 15.0, 15.0]])]).backward()
    assert student[0].grad[..., :2, :2].all()
    assert not student[0].grad[..., -1].any()


def test_a_batch_without_boxes_costs_nothing_and_keeps_the_graph():
    student, teacher = maps(*SHAPES, grad=True), maps(*SHAPES)
    loss = fgfi_loss(student, teacher, LEVELS, [torch.zeros(0), torch.zeros(0, 4)])
    loss.backward()
    assert loss.item() == 0
    assert all(feature.grad is not None for feature in student)


@pytest.mark.parametrize("relu", [True, False])
def test_the_method_takes_the_teachers_anchors(relu):
    images, sizes, targets = scene_batch()
    student, teacher = TinyDetector(8, dense=False).double(), TinyDetector(12).double().eval()
    images, boxes = images.double(), [target["boxes"].double() for target in targets]
    with torch.no_grad():
        taught = teacher(images, sizes)
    exchange = exchange_of(student.eval()(images, sizes), taught, boxes)
    method = built(FGFI(relu=relu), exchange)
    projected = [
        F.conv2d(feature, layer[0].weight, layer[0].bias, padding=1)
        for feature, layer in zip(exchange.student.output.pyramid, method.connectors, strict=True)
    ]
    projected = [feature.clamp(min=0) for feature in projected] if relu else projected
    expected = slow_fgfi(projected, taught.pyramid, taught.dense.anchors, boxes, 0.5)
    assert expected > 0
    assert_agree(method(exchange), expected, list(method.parameters()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_computed_in_float32(dtype):
    student, teacher, boxes = maps(*SHAPES, dtype=dtype), maps(*SHAPES, dtype=dtype), boxes_of("some")
    exact = fgfi_loss([f.float() for f in student], [f.float() for f in teacher], LEVELS, boxes)
    with torch.autocast("cpu", torch.bfloat16):
        loss = fgfi_loss(student, teacher, LEVELS, boxes)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact)


def test_the_teacher_gets_no_gradient():
    student, teacher = maps(*SHAPES, grad=True), maps(*SHAPES, grad=True)
    fgfi_loss(student, teacher, LEVELS, boxes_of("some")).backward()
    assert all(feature.grad is None for feature in teacher)


def test_a_teacher_without_anchors_is_refused_before_training():
    images, sizes, targets = scene_batch()
    networks = TinyDetector(8), TinyDetector(8, dense=False).eval()
    exchange = exchange_of(*(network(images, sizes, targets) for network in networks))
    with pytest.raises(ValueError, match="FGFI needs the one-stage head of the teacher, but found a two-stage"):
        built(FGFI(), exchange)
    with pytest.raises(ValueError, match="but found a detector whose output shows no head"):
        built(FGFI(), pyramids(maps(*SHAPES), maps(*SHAPES)))


def test_refusals():
    features = maps(*SHAPES)
    with pytest.raises(ValueError, match="each of the 4 x 5 positions of the feature map, got 12 anchors"):
        fgfi_loss(features, features, LEVELS[::-1], boxes_of("some"))
    with pytest.raises(ValueError, match="one tensor of boxes for each of 2 images, got 1"):
        fgfi_loss(features, features, LEVELS, boxes_of("one image"))
    with pytest.raises(ValueError, match=r"for every level .* got \[2, 2, 1\]"):
        fgfi_loss(features, features, LEVELS[:1], boxes_of("some"))
    with pytest.raises(ValueError, match="threshold is a share"):
        FGFI(threshold=1.0)
