import math

import pytest
import torch
from largest_tensor import Largest

from lightning_kd.methods.relations import rkd, rkd_loss


def huber(a, b):
    gap = (a - b).abs()
    return torch.where(gap < 1, gap**2 / 2, gap - 0.5)


def reference(student, teacher, distance_weight, angle_weight):
    """The paper's sums, one pair and one triplet at a time."""
    batch = len(student)

    def distances(x):
        d = torch.stack(
            [
                torch.stack([(x[i] - x[j]).norm() if i != j else x.new_zeros(()) for j in range(batch)])
                for i in range(batch)
            ]
        )
        return d / d[d > 0].mean()

    def angle(x, i, j, k):
        if i in (j, k):
            return x.new_zeros(())
        return torch.dot((x[j] - x[i]) / (x[j] - x[i]).norm(), (x[k] - x[i]) / (x[k] - x[i]).norm())

    loss = distance_weight * huber(distances(student), distances(teacher)).mean()
    triplets = [(i, j, k) for i in range(batch) for j in range(batch) for k in range(batch)]
    angles = torch.stack([huber(angle(student, *t), angle(teacher, *t)) for t in triplets]).mean()
    return loss + angle_weight * angles


def pair(batch=5, student=4, teacher=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(batch, student + teacher, generator=generator, dtype=torch.float64)
    return both[:, :student].clone().requires_grad_(), both[:, student:].clone()


@pytest.mark.parametrize("weights", [(25.0, 50.0), (1.0, 0.0), (0.0, 2.0)])
def test_equals_the_sums_of_the_paper(weights):
    student, teacher = pair()
    loss, expected = rkd_loss(student, teacher, *weights), reference(student, teacher, *weights)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    ours, theirs = torch.autograd.grad(loss, student)[0], torch.autograd.grad(expected, student)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("elements", [1, 60, 10**6])
def test_chunks_change_nothing(monkeypatch, elements):
    student, teacher = pair(7)
    expected = torch.autograd.grad(rkd_loss(student, teacher), student)[0]
    monkeypatch.setattr(rkd, "_CHUNK_ELEMENTS", elements)
    torch.testing.assert_close(
        torch.autograd.grad(rkd_loss(student, teacher), student)[0], expected, rtol=1e-12, atol=0
    )


def test_gradient_check_scales_with_the_upstream_gradient():
    student, teacher = pair(4)
    assert torch.autograd.gradcheck(lambda x: 3 * rkd_loss(x, teacher), (student,))


def test_memory_is_bounded(monkeypatch):
    batch, width = 48, 40
    student, teacher = pair(batch, width, width)
    monkeypatch.setattr(rkd, "_CHUNK_ELEMENTS", 4 * batch * batch)
    with Largest() as largest:
        rkd_loss(student, teacher, 0.0, 50.0).backward()
    assert largest.elements <= 4 * batch * batch
    assert largest.elements < batch**3 // 8


def test_invariant_to_scale_and_shift_of_the_student():
    student, teacher = pair()
    torch.testing.assert_close(rkd_loss(student, teacher), rkd_loss(5 * student + 3, teacher))


@pytest.mark.parametrize("same", ["two", "all"])
def test_coincident_samples_have_finite_gradients(same):
    student, teacher = pair()
    student = student.detach().clone()
    student[: 2 if same == "two" else None] = student[0].clone()
    student = student.requires_grad_()
    loss = rkd_loss(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3


def test_batch_of_one_is_zero():
    student, teacher = pair(1)
    loss = rkd_loss(student, teacher)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, student)[0].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_and_large_values(dtype):
    student, teacher = pair()
    student = (student.detach() * 1e4).to(dtype).requires_grad_()
    loss = rkd_loss(student, teacher.to(dtype))
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_autocast_does_not_lower_the_precision():
    student, teacher = pair()
    student, teacher = student.detach().float(), teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = rkd_loss(student, teacher)
    assert torch.equal(loss, rkd_loss(student, teacher))


def test_no_gradient_into_the_teacher():
    student, teacher = pair()
    teacher.requires_grad_()
    rkd_loss(student, teacher).backward()
    assert teacher.grad is None


def test_refusals():
    with pytest.raises(ValueError, match="same samples"):
        rkd_loss(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="pool or flatten"):
        rkd_loss(torch.zeros(3, 2, 4, 4), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="must not be negative"):
        rkd.RKD(distance_weight=-1)
