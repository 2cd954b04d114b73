import pytest
import torch
from methods.detection.pyramid_references import (
    AWKWARD,
    IMAGE_SIZE,
    assert_agree,
    boxes_of,
    built,
    maps,
    pyramids,
    slow_context,
    slow_fgd,
)
from torch import nn

from lightning_kd.methods.detection import FGD, fgd_loss

SHAPES = ((2, 3, 4, 5), (2, 3, 2, 3))
NUMBERS = (0.7, 0.4, 0.3, 0.2, 0.5)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shapes_for(boxes):
    return [(len(boxes), *shape[1:]) for shape in SHAPES]


@pytest.mark.parametrize("situation", AWKWARD)
def test_matches_a_loop(situation):
    boxes = boxes_of(situation)
    shapes = shapes_for(boxes)
    student, contexts, teacher = maps(*shapes, grad=True), maps(*shapes, *shapes, grad=True), maps(*shapes)
    arguments = (student, teacher, contexts[:2], contexts[2:], boxes, IMAGE_SIZE, *NUMBERS)
    assert_agree(fgd_loss(*arguments), slow_fgd(*arguments), [*student, *contexts])


def test_boxes_refer_to_the_padded_image():
    """The same box in pixels covers other cells where the batch is padded to another size."""
    student, teacher = maps((1, 3, 4, 5)), maps((1, 3, 4, 5))
    arguments = (student, teacher, student, teacher, [torch.tensor([[3.0, 5.0, 20.0, 17.0]]).double()])
    losses = [fgd_loss(*arguments, size, *NUMBERS) for size in (IMAGE_SIZE, (64, 80))]
    for loss, size in zip(losses, (IMAGE_SIZE, (64, 80)), strict=True):
        torch.testing.assert_close(loss, slow_fgd(*arguments, size, *NUMBERS))
    assert losses[0] != losses[1]


def test_a_perfect_student_costs_nothing_but_the_context():
    teacher = maps(*SHAPES)
    assert fgd_loss(teacher, teacher, teacher, teacher, boxes_of("some"), IMAGE_SIZE).item() == 0


def test_the_teacher_gets_no_gradient_but_its_context_does():
    student, teacher, context = maps(SHAPES[0], grad=True), maps(SHAPES[0], grad=True), maps(SHAPES[0], grad=True)
    fgd_loss(student, teacher, student, context, boxes_of("some"), IMAGE_SIZE).backward()
    assert teacher[0].grad is None
    assert context[0].grad.any()


@pytest.mark.parametrize("student_width", [3, 2])
def test_the_method_is_the_loss_on_contexts(student_width):
    shapes = [(2, student_width, 4, 5), (2, student_width, 2, 3)]
    student, teacher, boxes = maps(*shapes, grad=True), maps(*SHAPES), boxes_of("some")
    exchange = pyramids(student, teacher, boxes)
    method = built(FGD(*NUMBERS), exchange)
    for module in (*method.student_contexts, *method.teacher_contexts):
        nn.init.normal_(module.transform[-1].weight)
    projected = [
        torch.einsum("oc,ncij->noij", layer[0].weight[:, :, 0, 0], s) + layer[0].bias[:, None, None]
        if len(layer)
        else s
        for layer, s in zip(method.connectors, student, strict=True)
    ]
    contexts = [
        [slow_context(f, module.attend, module.transform) for module, f in zip(modules, features, strict=True)]
        for modules, features in ((method.student_contexts, projected), (method.teacher_contexts, teacher))
    ]
    expected = slow_fgd(projected, teacher, *contexts, boxes, IMAGE_SIZE, *NUMBERS)
    assert student_width == 3 or all(len(layer) for layer in method.connectors)
    assert_agree(method(exchange), expected, [*student, *method.parameters()], 1e-8)


def test_contexts_start_by_adding_nothing():
    [feature] = maps((2, 3, 4, 5))
    method = built(FGD(), pyramids([feature], [feature], boxes_of("some")))
    for module in (*method.student_contexts, *method.teacher_contexts):
        assert torch.equal(module(feature), feature)
        assert module.attend.weight.any()


def test_a_single_channel_and_other_sizes_are_accepted():
    student, teacher = maps((2, 1, 3, 3), grad=True), maps((2, 1, 4, 5))
    exchange = pyramids(student, teacher, boxes_of("some"))
    built(FGD(), exchange)(exchange).backward()
    assert student[0].grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_computed_in_float32(dtype):
    student, teacher = maps((2, 3, 4, 5), dtype=dtype), maps((2, 3, 4, 5), dtype=dtype)
    single = pyramids([f.float() for f in student], [f.float() for f in teacher], boxes_of("some"))
    method = built(FGD(), single)
    expected = method(single)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(pyramids(student, teacher, boxes_of("some")))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_large_sums_stay_finite_in_half_precision():
    student, teacher = (1e3 * torch.randn(2, 8, 40, 40, dtype=torch.float16) for _ in range(2))
    exchange = pyramids([student.requires_grad_()], [teacher], boxes_of("some"))
    method = built(FGD(), exchange).float()
    loss = method(exchange)
    loss.backward()
    assert loss.isfinite()
    assert loss > torch.finfo(torch.float16).max
    assert student.grad.isfinite().all()


def test_published_values():
    assert FGD.for_detector("retinanet").alpha == FGD().alpha
    two_stage = FGD.for_detector("two-stage", layers={"a": "b"}, weight=2.0)
    assert (two_stage.alpha, two_stage.lambda_, two_stage.layers, two_stage.weight) == (5e-5, 5e-7, {"a": "b"}, 2.0)
    with pytest.raises(ValueError, match="no values of FGD are published for 'yolo'; choose one of retinanet"):
        FGD.for_detector("yolo")


def test_refusals():
    student, teacher = maps((2, 3, 4, 5)), maps((2, 4, 4, 5))
    with pytest.raises(ValueError, match="equal shapes"):
        fgd_loss(student, teacher, student, student, boxes_of("some"), IMAGE_SIZE)
    with pytest.raises(ValueError, match="one tensor of boxes for each of 2 images, got 1"):
        fgd_loss(student, student, student, student, boxes_of("one image"), IMAGE_SIZE)
    with pytest.raises(ValueError, match=r"for every level .* got \[1, 1, 1, 0\]"):
        fgd_loss(student, student, student, [], boxes_of("some"), IMAGE_SIZE)
    with pytest.raises(ValueError, match="must not be negative"):
        FGD(alpha=-1.0)
    exchange = pyramids(student, student)
    with pytest.raises(ValueError, match="needs ground-truth boxes, but found NoneType"):
        built(FGD(), exchange)(exchange)
