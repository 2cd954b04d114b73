"""LD: its loss and its region against loops, and which detectors it takes."""

import pytest
import torch
from methods.detection.head_references import (
    BINS,
    CLASSES,
    IMAGE_SIZE,
    PointwiseLayers,
    assert_agree,
    assignment,
    exchange_of,
    grid_anchors,
    position_rows,
    pyramid_of,
    slow_ld,
    slow_region,
)

from lightning_kd.detection import DetectionOutput
from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.detection import LD, ld_loss
from lightning_kd.methods.detection.ld import valuable_region
from lightning_kd.testing.scenes import TinyDetector, scene_batch

LEVELS = (4, 3)
NUMBERS = (0.6, 0.5, 3.0)
SITUATIONS = {
    "some": ([[1, 0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0, 0]], [[0, 0.5, 0.25, 0.1, 0, 0, 0.7], [0] * 7]),
    "a level without positives": ([[1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]], [[0.3] * 7, [0] * 7]),
    "no positives": ([[0] * 7] * 2, [[0, 0.5, 0.25, 0.1, 0, 0, 0.7]] * 2),
    "no region": ([[1, 0, 0, 1, 0, 1, 0]] * 2, [[0] * 7] * 2),
    "nothing": ([[0] * 7] * 2, [[0] * 7] * 2),
    "one image": ([[1, 0, 0, 1, 0, 1, 0]], [[0, 0.5, 0.25, 0.1, 0, 0, 0.7]]),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def predictions(images=2, *, grad=True):
    return [
        torch.randn(shape, dtype=torch.float64).mul(3).requires_grad_(grad)
        for shape in ((images, 7, 4, BINS), (images, 7, CLASSES))
    ]


def masks(situation):
    positive, region = SITUATIONS[situation]
    return torch.tensor(positive).bool(), torch.tensor(region, dtype=torch.float64)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_matches_a_loop(situation):
    positive, region = masks(situation)
    bins, logits = predictions(len(positive))
    wanted = predictions(len(positive), grad=False)
    tensors = (bins, wanted[0], logits, wanted[1], positive, region, LEVELS)
    loss = ld_loss(*tensors, *NUMBERS, 4.0, 2.5)
    assert_agree(loss, slow_ld(*tensors, NUMBERS, 4.0, 2.5), [bins, logits])
    assert (loss == 0) == (situation == "nothing")


def test_a_perfect_student_costs_nothing():
    bins, logits = predictions()
    assert ld_loss(bins, bins, logits, logits, *masks("some"), LEVELS).item() == 0


def test_the_teacher_gets_no_gradient():
    bins, logits = predictions()
    wanted = predictions()
    ld_loss(bins, wanted[0], logits, wanted[1], *masks("some"), LEVELS).backward()
    assert wanted[0].grad is None
    assert wanted[1].grad is None


def test_the_sides_leave_the_class_logits_alone():
    bins, logits = predictions()
    wanted = predictions(grad=False)
    loss = ld_loss(bins, wanted[0], logits, wanted[1], *masks("some"), LEVELS, class_weight=0.0)
    loss.backward()
    assert bins.grad.any()
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    bins, logits, wanted_bins, wanted = (part.to(dtype) for part in (*predictions(grad=False), *predictions()))
    positive, region = masks("some")
    with torch.autocast("cpu", torch.bfloat16):
        loss = ld_loss(bins, wanted_bins, logits, wanted, positive, region.float(), LEVELS)
    single = [part.float() for part in (bins, wanted_bins, logits, wanted)]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ld_loss(*single, positive, region.float(), LEVELS))


def test_shapes_are_checked():
    bins, logits = predictions()
    with pytest.raises(ValueError, match="levels that add up to P"):
        ld_loss(bins, bins, logits, logits, *masks("some"), (4, 4))
    with pytest.raises(ValueError, match=r"ld_loss expected bins \(N, P, 4, B\)"):
        ld_loss(bins[:, :3], bins[:, :3], logits, logits, *masks("some"), LEVELS)
    with pytest.raises(ValueError, match="same shape"):
        ld_loss(bins, bins, logits, logits[..., :2], *masks("some"), LEVELS)


# the region

BOXES = {
    "some": [[3, 5, 20, 17.5], [0, 0, 30, 31]],
    "small": [[10, 10, 14, 13]],
    "overlapping": [[4, 4, 30, 28], [6, 5, 28, 30], [4, 4, 30, 28]],
    "none": [],
    "without area": [[10, 10, 10, 20], [7, 7, 7, 7]],
    "outside": [[60, 2, 70, 20]],
    "partly outside": [[-8, -4, 12, 9], [25, 18, 55, 70]],
}


USABLE = {
    "all": lambda index, first: index >= 0,
    "some": lambda index, first: index % 3 > 0,
    "one level": lambda index, first: index >= first,
    "one": lambda index, first: index == 4,
    "none": lambda index, first: index < 0,
}


@pytest.mark.parametrize("situation", BOXES)
@pytest.mark.parametrize("per_position", [1, 2])
@pytest.mark.parametrize("usable", USABLE)
def test_the_region_matches_a_loop(situation, per_position, usable):
    # a little off the grid: no two anchors are equally near a box
    anchors = [level + 0.01 * torch.rand(len(level), 1).double() for level in grid_anchors(per_position)]
    boxes = torch.tensor(BOXES[situation], dtype=torch.float64).reshape(-1, 4)
    mask = USABLE[usable](torch.arange(sum(map(len, anchors))), len(anchors[0]))
    weights = valuable_region(anchors, boxes, mask)
    torch.testing.assert_close(weights, torch.tensor(slow_region(anchors, boxes, mask), dtype=torch.float64))
    assert not weights[~mask].any()
    if usable == "all" and situation in ("some", "overlapping", "partly outside"):
        assert 0 < int((weights > 0).sum()) < len(weights)
    if situation in ("none", "without area", "outside"):
        assert not weights.any()


# the method


def heads(*, positives=True, images=2, kinds=("gfl", "gfl")):
    layers = [PointwiseLayers(kind, 1, 1, 3) for kind in kinds]
    pyramids = [pyramid_of(images, 3, grad=True), pyramid_of(images, 3)]
    given = [assignment(images, positives=positives), None]
    outputs = [
        DetectionOutput(pyramid, IMAGE_SIZE, dense=layer(pyramid, assigned))
        for layer, pyramid, assigned in zip(layers, pyramids, given, strict=True)
    ]
    return pyramids[0], outputs


@pytest.mark.parametrize(
    ("boxes", "positives"),
    [(("some", "small"), True), (("partly outside", "none"), True), (("none", "none"), False), (("some",), True)],
)
def test_the_method_is_the_loss_on_positives_and_region(boxes, positives):
    truth = [torch.tensor(BOXES[name], dtype=torch.float64).reshape(-1, 4) for name in boxes]
    own, outputs = heads(positives=positives, images=len(boxes))
    student, teacher = (output.dense for output in outputs)
    bins = [position_rows(head, head.box_regression, 4 * BINS).unflatten(2, (4, BINS)) for head in (student, teacher)]
    logits = [position_rows(head, head.class_logits, CLASSES) for head in (student, teacher)]
    positive = torch.stack([assigned >= 0 for assigned in student.assigned])
    region = [
        slow_region(student.anchors, image, assigned != -2)
        for image, assigned in zip(truth, student.assigned, strict=True)
    ]
    levels = [len(level) for level in student.anchors]
    expected = slow_ld(*bins, *logits, positive, torch.tensor(region), levels, (0.25, 0.25, 10.0), 10.0, 2.0)
    loss = LD()(exchange_of(*outputs, truth))
    assert_agree(loss, expected, own)
    assert (loss > 0) == positives


def tiny(channels=8, **options):
    torch.manual_seed(channels)
    return TinyDetector(channels, **{"kind": "gfl"} | options)


@pytest.mark.parametrize(("count", "boxes"), [(1, True), (1, False), (3, True), (2, False)])
def test_real_detectors_of_awkward_batches(count, boxes):
    student, teacher = tiny(8).train(), tiny(12).eval()
    batch = scene_batch(count, boxes=boxes)
    with torch.no_grad():
        view = View(teacher(*batch))
    exchange = Exchange(batch, batch[2], View(student(*batch)), [view])
    method = LD(class_weight=0.0)
    method.build(BuildContext(exchange, student, [teacher]))
    loss = method(exchange)
    loss.backward()
    assert (loss > 0) == boxes
    assert boxes == bool(student.head.regression.predict.weight.grad.any())


def exchange_between(student, teacher):
    batch = scene_batch(2)
    with torch.no_grad():
        return Exchange(batch, batch[2], View(student(*batch)), [View(teacher(*batch))])


@pytest.mark.parametrize("kinds", [("retinanet", "gfl"), ("gfl", "retinanet")])
def test_heads_without_distributions_are_refused_in_build(kinds):
    student, teacher = (tiny(kind=kind) for kind in kinds)
    with pytest.raises(ValueError, match=f"'{kinds[0]}' .student. and '{kinds[1]}' .teacher.; train GFL detectors"):
        LD().build(BuildContext(exchange_between(student, teacher), student, [teacher]))


def test_other_detectors_are_refused():
    student = tiny()
    for teacher, message in ((tiny(dense=False), "found a two-stage detector"), (tiny(num_classes=5), "3 and the te")):
        with pytest.raises(ValueError, match=message):
            LD()(exchange_between(student, teacher))
    _, outputs = heads()
    outputs[1].dense.box_regression = [maps[:, :16] for maps in outputs[1].dense.box_regression]
    with pytest.raises(ValueError, match=r"5 bins a side \(student\) and 4 \(teacher\)"):
        LD()(exchange_of(*outputs))


def test_missing_boxes_are_refused():
    _, outputs = heads()
    with pytest.raises(ValueError, match="needs ground-truth boxes"):
        LD()(exchange_of(*outputs))
    assert LD(region_weight=0.0)(exchange_of(*outputs)) > 0
    outputs[0].dense.assigned = None
    with pytest.raises(ValueError, match="call the student's network with its targets"):
        LD(region_weight=0.0)(exchange_of(*outputs))


@pytest.mark.parametrize(
    "arguments",
    [
        {"main_weight": -1.0},
        {"main_weight": 0.0, "region_weight": 0.0, "class_weight": 0.0},
        {"temperature": 0.0},
        {"class_temperature": -1.0},
    ],
)
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="must"):
        LD(**arguments)
