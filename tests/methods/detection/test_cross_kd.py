"""CrossKD: its loss against a loop, and the way of a student's features through the teacher's head."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from methods.detection.head_references import (
    BINS,
    IMAGE_SIZE,
    PointwiseLayers,
    assert_agree,
    assignment,
    exchange_of,
    position_rows,
    pyramid_of,
    sigmoid,
    slow_align,
    slow_cross_kd,
    slow_decode,
)

from lightning_kd.detection import DetectionOutput
from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.detection import CrossKD, cross_kd_loss
from lightning_kd.methods.detection.cross_kd import align_scale
from lightning_kd.testing.scenes import TinyDetector, scene_batch

WIDTH, DEPTH = 3, 2
PUBLISHED = {
    "retinanet": ("giou", 1.0, 1.0),
    "atss": ("giou", 1.0, 1.0),
    "fcos": ("iou", 0.4, 0.75),
    "gfl": ("bins", 1.0, 4.0),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def predictions(box_loss, images=2, places=6, *, grad=True):
    """Class logits and boxes; boxes overlap somewhat, nowhere or have no area."""
    logits = 2 * torch.randn(images, places, 3, dtype=torch.float64)
    if box_loss == "bins":
        boxes = torch.randn(images, places, 4, BINS, dtype=torch.float64)
    else:
        corners = 20 * torch.rand(images, places, 2, dtype=torch.float64)
        boxes = torch.cat([corners, corners + 8 + 4 * torch.rand(images, places, 2, dtype=torch.float64)], -1)
        boxes[0, 0] += 100
    return logits.requires_grad_(grad), boxes.requires_grad_(grad)


VALID = {
    "all": torch.ones(2, 6, dtype=torch.bool),
    "some": torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 1, 1]]).bool(),
    "one image": torch.tensor([[0] * 6, [1] * 6]).bool(),
    "none": torch.zeros(2, 6, dtype=torch.bool),
}


@pytest.mark.parametrize("box_loss", ["giou", "iou", "bins"])
@pytest.mark.parametrize("situation", VALID)
@pytest.mark.parametrize(("positives", "beta"), [(0, 1.0), (4, 2.0), (2.5, 0.0)])
def test_matches_a_loop(box_loss, situation, positives, beta):
    logits, boxes = predictions(box_loss)
    wanted = predictions(box_loss, grad=False)
    arguments = (logits, wanted[0], boxes, wanted[1], VALID[situation], positives, box_loss, 0.7, 1.3, beta)
    loss = cross_kd_loss(*arguments)
    assert_agree(loss, slow_cross_kd(*arguments), [logits, boxes])
    assert (loss == 0) == (situation == "none")


@pytest.mark.parametrize("box_loss", ["giou", "iou", "bins"])
def test_a_perfect_student_costs_nothing(box_loss):
    logits, boxes = predictions(box_loss)
    loss = cross_kd_loss(logits, logits, boxes, boxes, VALID["all"], 3, box_loss)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert boxes.grad.isfinite().all()


@pytest.mark.parametrize("box_loss", ["giou", "iou"])
def test_boxes_without_area_have_finite_gradients(box_loss):
    logits, boxes = predictions(box_loss)
    flat = boxes.detach().clone()
    flat[..., 2] = flat[..., 0]
    flat[0, 1, 3] = flat[0, 1, 1]
    flat.requires_grad_()
    cross_kd_loss(logits, logits, flat, flat, VALID["all"], 3, box_loss).backward()
    assert flat.grad.isfinite().all()


def test_the_teacher_gets_no_gradient():
    logits, boxes = predictions("giou")
    wanted = predictions("giou")
    cross_kd_loss(logits, wanted[0], boxes, wanted[1], VALID["all"], 3).backward()
    assert wanted[0].grad is None
    assert wanted[1].grad is None


@pytest.mark.parametrize("box_loss", ["giou", "iou", "bins"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(box_loss, dtype):
    parts = [part.to(dtype) for part in (*predictions(box_loss, grad=False), *predictions(box_loss, grad=False))]
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_kd_loss(parts[0], parts[2], parts[1], parts[3], VALID["all"], 3, box_loss)
    single = [part.float() for part in parts]
    expected = cross_kd_loss(single[0], single[2], single[1], single[3], VALID["all"], 3, box_loss)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 1), (1, 2, 1, 2)])
def test_scale_matches_a_loop(shape):
    student = torch.randn(shape, dtype=torch.float64).requires_grad_()
    teacher = 3 * torch.randn(shape, dtype=torch.float64) + 1
    factors = torch.randn(shape, dtype=torch.float64)
    aligned, expected = align_scale(student, teacher), slow_align(student, teacher)
    torch.testing.assert_close(aligned, expected)
    (actual,) = torch.autograd.grad((aligned * factors).sum(), student)
    assert actual.isfinite().all()
    if student[:, 0].numel() > 1:  # the square root of the loop has no gradient at 0
        torch.testing.assert_close(actual, torch.autograd.grad((expected * factors).sum(), student)[0])


def test_a_dead_channel_keeps_finite_gradients():
    student = torch.zeros(2, 1, 3, 3, requires_grad=True)
    align_scale(student, torch.randn(2, 1, 3, 3)).sum().backward()
    assert student.grad.isfinite().all()


def heads(kind, per_position=1, *, positives=True, images=2, teacher_width=WIDTH, depth=DEPTH, teacher_classes=3):
    """Layers of both heads, a student that learns from its pyramid on, and a frozen teacher."""
    student = PointwiseLayers(kind, per_position, depth, WIDTH)
    teacher = PointwiseLayers(kind, per_position, depth, teacher_width, teacher_classes).requires_grad_(False)
    own = pyramid_of(images, WIDTH, grad=True)
    assigned = assignment(images, per_position, positives=positives)
    outputs = [
        DetectionOutput(pyramid, IMAGE_SIZE, dense=layers(pyramid, given))
        for layers, pyramid, given in ((student, own, assigned), (teacher, pyramid_of(images, teacher_width), None))
    ]
    return student, own, outputs


def slow_method(outputs, depth):
    """The loss of the whole method, position by position."""
    student, teacher = (output.dense for output in outputs)
    rows = {}
    for branch in ("classification", "regression"):
        maps = []
        for level in range(2):
            if depth:
                own, other = (head.towers[branch][depth - 1][level] for head in (student, teacher))
                feature = slow_align(own, other).clamp(min=0)
            else:
                feature = slow_align(*(output.pyramid[level] for output in outputs))
            for layer in [*teacher.layers.towers[branch][depth:], teacher.layers.predict[branch]]:
                if branch == "regression" and layer is teacher.layers.predict[branch]:
                    centre = teacher.layers.centerness
                    rows.setdefault("centerness", []).append(
                        torch.einsum("oc,ncij->noij", centre.weight[:, :, 0, 0], feature) + centre.bias[:, None, None]
                    )
                feature = torch.einsum("oc,ncij->noij", layer.weight[:, :, 0, 0], feature) + layer.bias[:, None, None]
                feature = feature if layer is teacher.layers.predict[branch] else feature.clamp(min=0)
            maps.append(feature)
        rows[branch] = maps
    box_loss, class_weight, box_weight = PUBLISHED[teacher.kind]
    code = 4 * BINS if box_loss == "bins" else 4
    logits = [position_rows(teacher, maps, 3) for maps in (rows["classification"], teacher.class_logits)]
    boxes = [position_rows(teacher, maps, code) for maps in (rows["regression"], teacher.box_regression)]
    if box_loss == "bins":
        boxes = [values.view(*values.shape[:2], 4, BINS) for values in boxes]
    else:
        boxes = [slow_decode(teacher, values) for values in boxes]
    valid = torch.stack([assigned != -2 for assigned in student.assigned])
    positives = sum(int((assigned >= 0).sum()) for assigned in student.assigned)
    loss = slow_cross_kd(*logits, *boxes, valid, positives, box_loss, class_weight, box_weight)
    if teacher.kind != "atss":
        return loss
    centres = [position_rows(teacher, maps, 1) for maps in (rows["centerness"], teacher.centerness)]
    for n, i in valid.nonzero().tolist():
        p, wanted = (sigmoid(centre[n, i, 0]) for centre in centres)
        entropy = -(wanted * p.log() + (1 - wanted) * (1 - p).log())
        loss = loss + max(sigmoid(value) for value in logits[1][n, i]) * entropy / max(positives, 1)
    return loss


@pytest.mark.parametrize(("kind", "per_position"), [("retinanet", 2), ("fcos", 1), ("gfl", 1), ("atss", 1)])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_method_is_the_loss_on_cross_head_predictions(kind, per_position, depth):
    student, own, outputs = heads(kind, per_position)
    loss = CrossKD(depth=depth)(exchange_of(*outputs))
    used = [layer.weight for tower in student.towers.values() for layer in tower[:depth]]
    assert_agree(loss, slow_method(outputs, depth), [*own, *used], 1e-8)


def test_without_positives_the_number_counts_as_one():
    _, own, outputs = heads("retinanet", positives=False, images=1)
    assert_agree(CrossKD(depth=1)(exchange_of(*outputs)), slow_method(outputs, 1), own, 1e-8)


@pytest.mark.parametrize(("kind", "depth"), [("retinanet", 3), ("gfl", 3), ("atss", 3), ("fcos", 2)])
def test_the_default_depth_is_the_published_one(kind, depth):
    _, _, outputs = heads(kind, depth=4)
    exchange = exchange_of(*outputs)
    assert torch.equal(CrossKD()(exchange), CrossKD(depth=depth)(exchange))
    assert not torch.equal(CrossKD()(exchange), CrossKD(depth=1)(exchange))


def test_only_the_first_convolutions_of_the_student_learn():
    student, own, outputs = heads("gfl")
    CrossKD(depth=1)(exchange_of(*outputs)).backward()
    assert all(feature.grad.any() for feature in own)
    for tower in student.towers.values():
        assert tower[0].weight.grad.any()
        assert tower[1].weight.grad is None
    assert all(layer.weight.grad is None for layer in student.predict.values())
    assert all(parameter.grad is None for parameter in outputs[1].dense.layers.parameters())


def test_weights_can_be_set():
    _, _, outputs = heads("gfl")
    exchange = exchange_of(*outputs)
    parts = [CrossKD(class_weight=c, box_weight=b)(exchange) for c, b in ((1, 0), (0, 1))]
    torch.testing.assert_close(CrossKD()(exchange), parts[0] + 4 * parts[1])


def test_positions_that_the_task_ignores_do_not_count():
    _, _, outputs = heads("gfl", positives=False)
    before = CrossKD()(exchange_of(*outputs))
    ignored = outputs[0].dense.assigned[0] == -2
    assert ignored.any()
    outputs[1].dense.class_logits[0][0, :, 0, 0] += 3  # position 0 of image 0
    assert torch.equal(CrossKD()(exchange_of(*outputs)), before)
    outputs[1].dense.class_logits[0][0, :, 0, 1] += 3
    assert not torch.equal(CrossKD()(exchange_of(*outputs)), before)


# building


def tiny(channels=8, **options):
    torch.manual_seed(channels)
    return TinyDetector(channels, **options)


def context_of(student, *teachers, batch=None):
    batch = batch or scene_batch(2)
    with torch.no_grad():
        views = [View(network(*batch)) for network in (student, *teachers)]
    return BuildContext(Exchange(batch, batch[2], views[0], views[1:]), student, list(teachers))


def test_build_lets_both_networks_keep_their_towers():
    student, teacher = tiny(8).train(), tiny(12).eval()
    method = CrossKD()
    with pytest.raises(ValueError, match="the head of the student has none; set `keep_towers = True`"):
        method(context_of(student, teacher).exchange)
    method.build(context_of(student, teacher))
    assert student.keep_towers
    assert teacher.keep_towers
    assert student.training
    exchange = context_of(student, teacher).exchange
    assert method(exchange).isfinite()


@pytest.mark.parametrize("kind", ["retinanet", "gfl"])
@pytest.mark.parametrize(("count", "boxes"), [(1, True), (1, False), (3, True), (2, False)])
def test_real_detectors_of_awkward_batches(kind, count, boxes):
    student, teacher = tiny(8, kind=kind).train(), tiny(12, kind=kind).eval().requires_grad_(False)
    batch = scene_batch(count, boxes=boxes)
    method = CrossKD()
    method.build(context_of(student, teacher, batch=batch))
    loss = method(Exchange(batch, batch[2], View(student(*batch)), [View(teacher(*batch))]))
    loss.backward()
    assert loss > 0
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.stem.parameters())


def test_widths_that_differ_are_refused_in_build():
    student, teacher = tiny(8), tiny(12)
    with pytest.raises(ValueError, match=r"pyramids of \[8, 8, 8\] channels \(student\) and \[12, 12, 12\] channels"):
        CrossKD(depth=0).build(context_of(student, teacher))
    _, _, outputs = heads("gfl", teacher_width=5)
    with pytest.raises(ValueError, match=r"classification towers of .* whose heads have the same width"):
        CrossKD()(exchange_of(*outputs))


def test_depth_beyond_the_towers_is_refused_in_build():
    with pytest.raises(ValueError, match="got depth=3, but the towers have 2"):
        CrossKD(depth=3).build(context_of(tiny(8), tiny(12)))


def test_heads_that_differ_are_refused():
    student, teacher = tiny(8, num_classes=3), tiny(12, num_classes=4)
    with pytest.raises(ValueError, match="the student knows 3 and the teacher 4 classes"):
        CrossKD().build(context_of(student, teacher))
    few, many = heads("retinanet", 1)[2], heads("retinanet", 2)[2]
    with pytest.raises(ValueError, match="number of anchors a position"):
        CrossKD()(exchange_of(few[0], many[1]))


def test_other_networks_are_refused():
    one, two = tiny(8), tiny(8, dense=False)
    with pytest.raises(ValueError, match="one-stage head of the teacher, but found a two-stage detector"):
        CrossKD().build(context_of(one, two))
    with pytest.raises(ValueError, match="one-stage head of the student, but found a network that returns Tensor"):
        CrossKD()(Exchange((), None, View(torch.zeros(2, 3)), [View(torch.zeros(2, 3))]))


def test_missing_targets_and_unknown_kinds_are_refused():
    _, _, outputs = heads("gfl")
    outputs[0].dense.assigned = None
    with pytest.raises(ValueError, match="call the student's network with its targets"):
        CrossKD()(exchange_of(*outputs))
    outputs = heads("yolo")[2]
    with pytest.raises(ValueError, match=r"heads of the kind 'yolo'.*retinanet, atss, fcos, gfl"):
        CrossKD()(exchange_of(*outputs))


@pytest.mark.parametrize("arguments", [{"depth": -1}, {"box_weight": -1.0}, {"beta": -1.0}, {"beta": 0.5}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="must"):
        CrossKD(**arguments)


def test_shapes_are_checked():
    logits, boxes = predictions("giou")
    with pytest.raises(ValueError, match="boxes"):
        cross_kd_loss(logits, logits[:, :3], boxes, boxes, VALID["all"], 1)
    with pytest.raises(ValueError, match="bins"):
        cross_kd_loss(logits, logits, boxes, boxes, VALID["all"], 1, "bins")
    with pytest.raises(ValueError, match="box_loss must be one of giou, iou, bins"):
        cross_kd_loss(logits, logits, boxes, boxes, VALID["all"], 1, "l1")


def loss_of_rank(rank):
    torch.manual_seed(3)
    _, _, outputs = heads("retinanet")
    if rank:
        outputs[0].dense.assigned = assignment(2, positives=False)
    return CrossKD(box_weight=1.0)(exchange_of(*outputs)).item()


def work(rank, port, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        results[rank] = loss_of_rank(rank)
    finally:
        dist.destroy_process_group()


def test_the_number_of_positives_is_that_of_all_ranks():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(work, (port, results), nprocs=2, start_method="fork")
        ranks = [results[0], results[1]]
    _, _, outputs = heads("retinanet")
    positives = sum(int((assigned >= 0).sum()) for assigned in outputs[0].dense.assigned)
    assert positives > 2
    torch.testing.assert_close(torch.tensor(ranks[0]), torch.tensor(2 * loss_of_rank(0)))
    torch.testing.assert_close(torch.tensor(ranks[1] * positives / 2), torch.tensor(loss_of_rank(1)))
