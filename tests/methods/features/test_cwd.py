import pytest
import torch

from lightning_kd.methods.features import CWD, cwd_loss


def slow(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        value = 0.0
        for b in range(s.shape[0]):
            for c in range(s.shape[1]):
                p, q = (torch.softmax(x[b, c].flatten() / temperature, 0) for x in (t, s))
                value = value + (p * (p.log() - q.log())).sum()
        total = total + temperature**2 * value / (s.shape[0] * s.shape[1])
    return total


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_matches_a_loop_over_channels(maps, agree, temperature):
    shapes = ((3, 4, 4, 4), (3, 5, 2, 3))
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    agree(cwd_loss(student, teacher, temperature), slow(student, teacher, temperature), student)


def test_huge_activations_are_finite():
    student = (1e4 * torch.randn(2, 3, 4, 4)).requires_grad_()
    loss = cwd_loss([student], [1e4 * torch.randn(2, 3, 4, 4)])
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_other_widths_and_sizes_are_brought_to_the_teachers(maps, build, exchange):
    student, teacher = maps((2, 3, 4, 4), grad=True), maps((2, 5, 8, 8))
    method = build(CWD(), student, teacher)
    method(exchange(student, teacher)).backward()
    assert student[0].grad.any()


def test_refusals(maps):
    with pytest.raises(ValueError, match="equal shapes"):
        cwd_loss(maps((2, 4, 3, 3)), maps((2, 4, 2, 2)))
    with pytest.raises(ValueError, match="temperature"):
        CWD(temperature=0.0)
