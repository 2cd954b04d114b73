"""NDDet: class means from ground truth and background, then norm, direction and classes of the proposals."""

import pytest
import torch
from methods.detection.head_references import (
    CLASSES,
    ListedRegions,
    assert_agree,
    exchange_of,
    regions_output,
    slow_iou,
    slow_kl,
    slow_nd,
)
from torch import nn

from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.detection import NDDet
from lightning_kd.testing.scenes import TinyDetector, scene_batch

OWN = [[[3, 5, 20, 17], [25, 20, 39, 31], [2, 6, 21, 18], [0, 0, 4, 4]], [[11, 2, 39, 31], [1, 1, 2, 2]]]
"""What the teacher proposes."""

TRUTH = {
    "some": [[[3, 5, 20, 17], [24, 19, 38, 30]], [[0, 0, 9, 30]]],
    "none in an image": [[[3, 5, 20, 17]], []],
    "none at all": [[], []],
    "without area or outside": [[[7, 7, 7, 7]], [[60, 2, 90, 20], [-9, -9, 4, 50]]],
    "many": [[[3, 5, 20, 17]] * 5, [[0, 0, 9, 30]] * 2],
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def tensors(boxes):
    return [torch.tensor(image, dtype=torch.float64).reshape(-1, 4) for image in boxes]


def stages(student_width=4, teacher_width=4, background=0):
    proposals = tensors([[[3, 5, 20, 17], [0, 0, 9, 30], [2, 2, 8, 8]], [[11, 2, 39, 31], [7, 7, 7, 7]]])
    labels = torch.arange(5) % (CLASSES + 1)
    student = ListedRegions(student_width, proposals, labels, background=background, own=tensors(OWN))
    return student, ListedRegions(teacher_width, background=background, own=tensors(OWN))


def exchange_between(student, teacher, truth="some"):
    return exchange_of(regions_output(student), regions_output(teacher), tensors(TRUTH[truth]))


def built(method, exchange):
    method.build(BuildContext(exchange, nn.Identity(), [nn.Identity()]))
    return method.double()


def slow_means(teacher, truths, cap):
    """Mean embeddings of ground truth and background over several batches."""
    embedded = [[] for _ in range(CLASSES + 1)]
    for truth in truths:
        for boxes, proposals in zip(tensors(truth), tensors(OWN), strict=True):
            for index, box in enumerate(boxes):
                place = index % CLASSES + (1 if teacher.background == 0 else 0)
                embedded[place].append(box / 20 @ teacher.embed)
            free = [p for p in proposals if all(slow_iou(p, box) < 0.5 for box in boxes)]
            embedded[teacher.background] += [box / 20 @ teacher.embed for box in free[:cap]]
    zero = torch.zeros(teacher.embed.shape[1], dtype=torch.float64)
    return torch.stack([sum(rows) / len(rows) if rows else zero for rows in embedded]).detach()


@pytest.mark.parametrize("background", [0, CLASSES])
@pytest.mark.parametrize("cap", [1, 32])
@pytest.mark.parametrize("truth", TRUTH)
def test_class_means_match_a_loop(background, cap, truth):
    student, teacher = stages(background=background)
    exchange = exchange_between(student, teacher, truth)
    method = built(NDDet(background_per_image=cap), exchange)
    for part in (exchange, exchange_between(student, teacher)):
        part.student = View(None)
        method.observe(part)
    method.finish_setup()
    torch.testing.assert_close(method.class_means, slow_means(teacher, [TRUTH[truth], TRUTH["some"]], cap))
    assert method.class_means[background].any()
    assert not method.class_means.requires_grad


@pytest.mark.parametrize("background", [0, CLASSES])
@pytest.mark.parametrize("widths", [(4, 4), (3, 5)])
def test_the_method_is_a_loop_over_proposals(background, widths):
    student, teacher = stages(*widths, background)
    exchange = exchange_between(student, teacher)
    method = built(NDDet(nd_weight=0.7, kd_weight=1.3), exchange)
    method.observe(exchange)
    method.finish_setup()
    boxes = torch.cat(student.proposals) / 20
    embeddings, wanted = boxes @ student.embed, (boxes @ teacher.embed).detach()
    logits = embeddings @ student.predict
    if widths[0] != widths[1]:
        embeddings = embeddings @ method.projector[0].weight.T + method.projector[0].bias
    means = slow_means(teacher, [TRUTH["some"]], 32)
    kl = sum(slow_kl(t, s) for s, t in zip(logits, (wanted @ teacher.predict).detach(), strict=True)) / len(boxes)
    expected = 0.7 * slow_nd(embeddings, wanted, means, student.labels) + 1.3 * kl
    loss = method(exchange)
    assert_agree(loss, expected, [student.embed, student.predict, *method.parameters()])
    loss.backward()
    assert teacher.embed.grad is None


def test_equal_widths_need_no_projector():
    student, teacher = stages()
    assert not list(built(NDDet(), exchange_between(student, teacher)).parameters())


def test_no_proposal_at_all_costs_nothing_and_keeps_the_projector_in_the_graph():
    teacher = stages()[1]
    student = ListedRegions(3, [torch.zeros(0, 4).double()] * 2, torch.zeros(0, dtype=torch.long), own=tensors(OWN))
    exchange = exchange_between(student, teacher)
    method = built(NDDet(), exchange)
    loss = method(exchange)
    assert loss.item() == 0
    loss.backward()
    assert method.projector[0].weight.grad is not None


def tiny_setup(count=3, *, boxes=True):
    student, teacher = TinyDetector(8).train(), TinyDetector(12).eval()
    batch = scene_batch(count, boxes=boxes)
    exchange = Exchange(batch, batch[2], View(student(*batch)), [View(teacher(*batch))])
    method = NDDet()
    method.build(BuildContext(exchange, student, [teacher]))
    return student, teacher, exchange, method


@pytest.mark.parametrize(("count", "boxes"), [(1, True), (1, False), (3, True), (2, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_real_detectors_of_awkward_batches(count, boxes, dtype):
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        student, teacher, exchange, method = tiny_setup(count, boxes=boxes)
        method.observe(exchange)
        method.finish_setup()
        loss = method(exchange)
    assert student.training
    assert not teacher.training
    assert (
        method.class_means.any(1).sum() == len({label for t in exchange.target for label in t["labels"].tolist()}) + 1
    )
    assert loss.dtype == torch.float32
    assert loss > 0
    loss.backward()
    assert student.region_head.embed[0].weight.grad.isfinite().all()


def test_build_runs_the_second_stages_without_a_trace():
    """Box heads may hold batch norms: their statistics must not see the dry run."""
    student, teacher = TinyDetector(8).train(), TinyDetector(12).eval()
    student.region_head.embed = nn.Sequential(nn.Linear(32, 5), nn.BatchNorm1d(5))
    student.region_head.classify, student.region_head.locate = nn.Linear(5, 4), nn.Linear(5, 4)
    batch = scene_batch(2)
    with torch.no_grad():
        exchange = Exchange(batch, batch[2], View(student.eval()(*batch)), [View(teacher(*batch))])
    student.train()
    method = NDDet()
    method.build(BuildContext(exchange, student, [teacher]))
    assert not student.region_head.embed[1].running_mean.any()
    assert student.region_head.embed.training
    assert method.projector[0].weight.shape == (6, 5)


def test_labels_of_another_numbering_are_refused():
    student, teacher = stages()
    exchange = exchange_between(student, teacher)
    exchange.target[0]["labels"] = torch.tensor([1, CLASSES])
    with pytest.raises(ValueError, match="4 classes, background included, got labels from 1 to 3"):
        built(NDDet(), exchange).observe(exchange)


def test_other_detectors_are_refused_in_build():
    student, _ = stages()
    with pytest.raises(ValueError, match="found a detector whose output shows no second stage"):
        built(NDDet(), exchange_of(regions_output(student), regions_output(None)))
    with pytest.raises(ValueError, match="the student knows 4 and the teacher 3 classes"):
        built(NDDet(), exchange_between(student, ListedRegions(4, classes=2, own=tensors(OWN))))


@pytest.mark.parametrize(
    "arguments", [{"nd_weight": -1.0}, {"nd_weight": 0.0, "kd_weight": 0.0}, {"background_per_image": 0}]
)
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="must"):
        NDDet(**arguments)
