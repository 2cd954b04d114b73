import dataclasses

import pytest
import torch
import torch.nn.functional as F

from lightning_kd.engine.exchange import Progress
from lightning_kd.methods.relations import SSKD, filtered_divergence, rotation_similarities
from lightning_kd.methods.relations.sskd import rotations
from lightning_kd.testing import Rig


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(student, teacher, target, temperature, keep_wrong):
    """Sort rows by the target's place in the teacher's ranking, keep the head of the list."""
    places = [teacher[row].argsort(descending=True).tolist().index(target[row]) for row in range(len(target))]
    right = [row for row, place in enumerate(places) if place == 0]
    wrong = sorted((row for row, place in enumerate(places) if place > 0), key=lambda row: places[row])
    kept = right + wrong[: int(len(wrong) * keep_wrong)]
    if not kept:
        return (student * 0).sum()
    p = (teacher / temperature).softmax(1)
    q = (student / temperature).log_softmax(1)
    return temperature**2 * sum((p[row] * (p[row].log() - q[row])).sum() for row in kept) / len(kept)


@pytest.mark.parametrize("keep_wrong", [0.0, 0.4, 0.75, 1.0])
def test_filtered_divergence_equals_the_sorted_list(keep_wrong):
    student, teacher = draw(12, 4).requires_grad_(), 2 * draw(12, 4, seed=1)
    target = torch.arange(12) % 4
    loss = filtered_divergence(student, teacher, target, 3.0, keep_wrong)
    expected = reference(student, teacher, target, 3.0, keep_wrong)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], torch.autograd.grad(expected, student)[0])


def test_nothing_kept_is_zero():
    teacher = torch.tensor([[0.0, 1.0]])
    student = torch.zeros(1, 2, requires_grad=True)
    loss = filtered_divergence(student, teacher, torch.tensor([0]), 1.0, 0.0)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, student)[0].abs().max() == 0


def test_rotations_turn_a_quarter_at_a_time():
    images = draw(2, 3, 4, 4)
    rotated = rotations(images)
    assert rotated.shape == (6, 3, 4, 4)
    torch.testing.assert_close(rotated[:2], images.transpose(2, 3).flip(2))
    torch.testing.assert_close(rotated[2:4], images.flip((2, 3)))
    torch.testing.assert_close(rotations(rotated[4:])[:2], images)


def test_rotation_similarities_are_cosines():
    original, rotated = draw(3, 5), draw(9, 5, seed=1)
    expected = F.cosine_similarity(rotated.unsqueeze(1), original.unsqueeze(0), dim=2)
    torch.testing.assert_close(rotation_similarities(original, rotated), expected)


def test_the_student_sends_no_gradient_into_the_teachers_head():
    rig = Rig(lambda: SSKD(transformed_weight=0.0, similarity_weight=1e6))
    rig.method(rig.exchange()).backward()
    with_student = [parameter.grad.clone() for parameter in rig.method.teacher_head.parameters()]
    other = Rig(lambda: SSKD(transformed_weight=0.0, similarity_weight=0.0))
    other.method(other.exchange()).backward()
    for left, right in zip(with_student, other.method.teacher_head.parameters(), strict=True):
        torch.testing.assert_close(left, right.grad)


def test_head_epochs_keep_the_similarities_back():
    rig = Rig(lambda: SSKD(head_epochs=3))
    early = dataclasses.replace(rig.exchange(), progress=Progress(epoch=2))
    late = dataclasses.replace(rig.exchange(), progress=Progress(epoch=3))
    assert rig.loss(early) < rig.loss(late)


def test_refusals():
    rig = Rig(SSKD)
    exchange = rig.exchange()
    with pytest.raises(ValueError, match="brings no way"):
        rig.method(dataclasses.replace(exchange, run_student=None))
    with pytest.raises(ValueError, match="square"):
        rig.method(dataclasses.replace(exchange, inputs=(torch.zeros(8, 3, 4, 6),)))
    with pytest.raises(ValueError, match="one tensor"):
        rig.method(dataclasses.replace(exchange, kwargs={"mask": torch.zeros(8)}))
    with pytest.raises(ValueError, match="kept shares"):
        SSKD(similarity_keep=2.0)
