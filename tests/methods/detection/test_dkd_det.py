"""DKDDet: both second stages look at the student's proposals."""

import pytest
import torch
from methods.detection.head_references import (
    CLASSES,
    ListedRegions,
    assert_agree,
    exchange_of,
    regions_output,
    slow_dkd,
)

from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.detection import DKDDet
from lightning_kd.testing.scenes import TinyDetector, scene_batch

PROPOSALS = {
    "some": [[[3, 5, 20, 17], [0, 0, 9, 30], [2, 2, 8, 8]], [[11, 2, 39, 31]]],
    "none in an image": [[[3, 5, 20, 17], [0, 0, 9, 30]], []],
    "without area or outside": [[[7, 7, 7, 7], [10, 10, 10, 20]], [[60, 2, 90, 20], [-9, -9, 4, 50]]],
    "one": [[[3, 5, 20, 17]]],
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def proposals_of(situation):
    return [torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) for boxes in PROPOSALS[situation]]


def stages(situation="some", background=0):
    proposals = proposals_of(situation)
    labels = torch.arange(sum(map(len, proposals))) % (CLASSES + 1)
    return ListedRegions(4, proposals, labels, background=background), ListedRegions(6, background=background)


def exchange_between(*regions):
    return exchange_of(*(regions_output(part) for part in regions))


@pytest.mark.parametrize("situation", PROPOSALS)
@pytest.mark.parametrize("background", [0, CLASSES])
def test_the_method_is_a_loop_over_proposals(situation, background):
    student, teacher = stages(situation, background)
    logits = torch.cat(proposals_of(situation)) / 20 @ student.embed @ student.predict
    wanted = (torch.cat(proposals_of(situation)) / 20 @ teacher.embed @ teacher.predict).detach()
    loss = DKDDet(alpha=0.7, beta=0.4, temperature=2.0)(exchange_between(student, teacher))
    assert_agree(loss, slow_dkd(logits, wanted, student.labels, 0.7, 0.4, 2.0), [student.embed, student.predict])
    loss.backward()
    assert teacher.embed.grad is None


def test_no_proposal_at_all_costs_nothing():
    student, teacher = stages()
    student = ListedRegions(4, [torch.zeros(0, 4).double()] * 2, torch.zeros(0, dtype=torch.long))
    loss = DKDDet()(exchange_between(student, teacher))
    assert loss.item() == 0
    loss.backward()
    assert not student.predict.grad.any()


@pytest.mark.parametrize(("count", "boxes"), [(1, True), (1, False), (3, True), (2, False)])
def test_real_detectors_of_awkward_batches(count, boxes):
    student, teacher = TinyDetector(8).train(), TinyDetector(12).eval()
    batch = scene_batch(count, boxes=boxes)
    with torch.autocast("cpu", torch.bfloat16):
        output = student(*batch)
        loss = DKDDet()(Exchange(batch, batch[2], View(output), [View(teacher(*batch))]))
    assert loss.dtype == torch.float32
    loss.backward()
    assert loss > 0
    assert student.region_head.classify.weight.grad.isfinite().all()


def test_build_refuses_what_does_not_fit():
    one, two, other = TinyDetector(8, regions=False), TinyDetector(8), TinyDetector(8, num_classes=5)
    batch = scene_batch(2)
    for student, teacher, message in (
        (two, one, "second stage of the teacher, but found a one-stage detector"),
        (one, two, "second stage of the student, but found a one-stage detector"),
        (two, other, "the student knows 4 and the teacher 6 classes"),
    ):
        exchange = Exchange(batch, batch[2], View(student(*batch)), [View(teacher(*batch))])
        with pytest.raises(ValueError, match=message):
            DKDDet().build(BuildContext(exchange, student, [teacher]))


def test_other_networks_and_conventions_are_refused():
    with pytest.raises(ValueError, match="the background is class 0 of the student and class 3 of the teacher"):
        DKDDet()(exchange_between(stages()[0], stages(background=CLASSES)[1]))
    with pytest.raises(ValueError, match="found a network that returns Tensor; wrap the detector"):
        DKDDet()(Exchange((), None, View(torch.zeros(2, 3)), [View(torch.zeros(2, 3))]))
    with pytest.raises(ValueError, match="found a detector whose output shows no second stage"):
        DKDDet()(exchange_between(stages()[0], None))


def test_a_student_in_eval_mode_is_refused():
    student, teacher = TinyDetector(8).eval(), TinyDetector(12).eval()
    batch = scene_batch(2)
    with pytest.raises(ValueError, match="sampled none; call the student's network in training mode"):
        DKDDet()(Exchange(batch, batch[2], View(student(*batch)), [View(teacher(*batch))]))
