import pytest
import torch
import torch.nn.functional as F
from methods.detection.pyramid_references import assert_agree, built, exchange_of, maps, pyramids, slow_frs

from lightning_kd.detection import DetectionOutput
from lightning_kd.methods.detection import FRS, frs_loss
from lightning_kd.testing.scenes import TinyDetector, scene_batch

SHAPES = ((2, 3, 4, 5), (2, 3, 2, 3))
LOGITS = ((2, 6, 4, 5), (2, 6, 2, 3))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def scenes(student: TinyDetector, teacher: TinyDetector):
    images, sizes, targets = scene_batch()
    with torch.no_grad():
        taught = teacher.eval()(images, sizes, targets)
    return exchange_of(student(images, sizes, targets), taught, [target["boxes"] for target in targets])


@pytest.mark.parametrize("weights", [(0.005, 0.02), (1.0, 0.0), (0.0, 1.0)])
def test_matches_a_loop(weights):
    student, teacher = maps(*SHAPES, grad=True), maps(*SHAPES)
    student_logits, teacher_logits = maps(*LOGITS, grad=True), maps(*LOGITS)
    arguments = (student, teacher, student_logits, teacher_logits, *weights)
    inputs = [*(student if weights[0] else []), *(student_logits if weights[1] else [])]
    assert_agree(frs_loss(*arguments), slow_frs(*arguments), inputs)


def test_one_image_of_one_position():
    student, teacher = maps((1, 3, 1, 1), grad=True), maps((1, 3, 1, 1))
    logits = maps((1, 2, 1, 1), (1, 2, 1, 1))
    arguments = (student, teacher, logits[:1], logits[1:], 0.5, 0.5)
    assert_agree(frs_loss(*arguments), slow_frs(*arguments), student)


def test_a_teacher_that_sees_nothing_gives_a_finite_loss():
    student, teacher, logits = maps(*SHAPES, grad=True), maps(*SHAPES), [torch.full(shape, -1e4) for shape in LOGITS]
    loss = frs_loss(student, teacher, logits, logits)
    loss.backward()
    assert loss.item() == 0
    assert all(feature.grad.isfinite().all() for feature in student)


def test_the_method_takes_the_heads_of_the_tapped_levels():
    student, teacher = TinyDetector(8), TinyDetector(12)
    exchange = scenes(student, teacher)
    method = built(FRS(0.3, 0.4), exchange)
    method.pairs, method.connectors = method.pairs[1:], method.connectors[1:]
    taught, own = exchange.teacher.output, exchange.student.output
    projected = [
        F.conv2d(feature, layer[0].weight, layer[0].bias, padding=1)
        for feature, layer in zip(own.pyramid[1:], method.connectors, strict=True)
    ]
    logits = own.dense.class_logits[1:], taught.dense.class_logits[1:]
    expected = slow_frs(projected, taught.pyramid[1:], *logits, 0.3, 0.4)
    assert_agree(method(exchange), expected, list(method.parameters()), 1e-4)


def test_without_class_weight_the_student_may_have_other_anchors_or_two_stages():
    exchange = scenes(TinyDetector(8, num_classes=5, dense=False), TinyDetector(8))
    assert built(FRS(class_weight=0.0), exchange)(exchange) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_computed_in_float32(dtype):
    inputs = [maps(*shapes, dtype=dtype) for shapes in (SHAPES, SHAPES, LOGITS, LOGITS)]
    exact = frs_loss(*([value.float() for value in part] for part in inputs))
    with torch.autocast("cpu", torch.bfloat16):
        loss = frs_loss(*inputs)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact)


def test_the_teacher_gets_no_gradient():
    student, teacher, logits = maps(*SHAPES, grad=True), maps(*SHAPES, grad=True), maps(*LOGITS, grad=True)
    frs_loss(student, teacher, maps(*LOGITS, grad=True), logits).backward()
    assert all(value.grad is None for value in (*teacher, *logits))


def test_heads_that_differ_are_refused_with_what_to_do():
    exchange = scenes(TinyDetector(8, num_classes=5), TinyDetector(8))
    with pytest.raises(ValueError, match="same anchors and classes, or set class_weight=0"):
        built(FRS(), exchange)(exchange)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_two_stage_detector_is_refused_before_training(side):
    networks = [TinyDetector(8, dense=side != name) for name in ("student", "teacher")]
    exchange = scenes(*networks)
    with pytest.raises(ValueError, match=f"FRS needs the one-stage head of the {side}, but found a two-stage detector"):
        built(FRS(), exchange)


def test_other_networks_and_layers_are_refused():
    student, teacher = maps(*SHAPES), maps(*SHAPES)
    exchange = pyramids(student, teacher)
    exchange.student.output = {"boxes": torch.zeros(1, 4)}
    with pytest.raises(ValueError, match=r"found a network that returns dict; wrap the detector in a `lightning_kd"):
        built(FRS(), exchange)
    assert isinstance(exchange.teacher.output, DetectionOutput)
    exchange = scenes(TinyDetector(8), TinyDetector(8))
    method = FRS(layers={"body.layer4": "body.layer4"})
    method.pairs = [("body.layer4", "body.layer4")]
    with pytest.raises(ValueError, match=r"needs levels of the pyramid, got the layer 'body\.layer4'"):
        method(exchange)


def test_refusals():
    features, logits = maps(*SHAPES), maps(*LOGITS)
    with pytest.raises(ValueError, match="both must be of the same level"):
        frs_loss(features, features, logits[::-1], logits[::-1])
    with pytest.raises(ValueError, match=r"for every level .* got \[2, 2, 1\]"):
        frs_loss(features, features, logits, logits[:1])
    with pytest.raises(ValueError, match="one of them must be positive"):
        FRS(0.0, 0.0)
