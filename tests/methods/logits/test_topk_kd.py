"""Top-k distillation against a slow reference, and against plain distillation where both are the same."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.engine.top import top_of
from lightning_kd.functional import kd_loss, topk_tail_kl_loss
from lightning_kd.methods import KD, TopKKD


def dense(student, teacher, k):
    """Class by class, in Python."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = t.exp() / t.exp().sum(), s.exp() / s.exp().sum()
        order = sorted(range(len(t)), key=lambda c: -t[c].item())
        top, others = order[:k], order[k:]
        total = total + sum(p[c] * (p[c] / q[c]).log() for c in top)
        if others:
            p_tail, q_tail = sum(p[c] for c in others), sum(q[c] for c in others)
            total = total + p_tail * (p_tail / q_tail).log()
    return total / len(student)


def loss(student, teacher, k):
    top = top_of(teacher, k)
    return topk_tail_kl_loss(student, top.indices, top.log_probabilities, top.log_tail)


@pytest.mark.parametrize("k", [1, 2, 5, 6, 7])
def test_value_and_gradient_in_double_precision(k):
    generator = torch.Generator().manual_seed(k)
    student = (3 * torch.randn(4, 7, generator=generator, dtype=torch.float64)).requires_grad_()
    teacher = 3 * torch.randn(4, 7, generator=generator, dtype=torch.float64)
    actual, expected = loss(student, teacher, k), dense(student, teacher, k)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(value, student)[0] for value in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, k), student)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_with_all_classes_it_is_plain_distillation_bit_for_bit(dtype):
    student = torch.randn(8, 20).to(dtype).requires_grad_()
    teacher = torch.randn(8, 20).to(dtype)
    ours, plain = loss(student, teacher, 20), kd_loss(student, teacher, temperature=1.0)
    assert torch.equal(ours, plain)
    assert torch.equal(*(torch.autograd.grad(value, student)[0] for value in (ours, plain)))
    exchange = Exchange((), None, View(student), [View(teacher)])
    assert torch.equal(TopKKD(k=99)(exchange), KD(temperature=1.0)(exchange))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 1000), st.floats(0.1, 30))
def test_between_zero_and_plain_distillation(k, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(3, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    # putting classes together loses information
    assert -1e-9 <= loss(student, teacher, k).item() <= kd_loss(student, teacher, 1.0).item() + 1e-9


def test_certain_teachers_and_extreme_students_stay_finite():
    teacher = torch.tensor([[1000.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    student = torch.tensor([[-80.0, 80.0, 0.0, 0.0], [90.0, 0.0, 0.0, -90.0]], requires_grad=True)
    for k in (1, 3):
        value = loss(student, teacher, k)
        assert value.isfinite()
        (gradient,) = torch.autograd.grad(value, student)
        assert gradient.isfinite().all()
    assert loss(teacher, teacher, 1).item() == 0


def test_the_mass_of_the_others_is_matched():
    # renormalised top probabilities could not tell these students apart
    teacher = torch.tensor([[2.0, 1.0, 0.0, 0.0]])
    for raised in (0.0, 1.0, 2.0):
        student = teacher + torch.tensor([0.0, 0.0, raised, raised])
        inside = student[:, :2].softmax(-1)
        torch.testing.assert_close(inside, teacher[:, :2].softmax(-1))
        assert (loss(student, teacher, 2).item() > 1e-3) == (raised > 0)


def test_tokens_and_single_samples():
    student, teacher = torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    exchange = Exchange((), None, View(student), [View(teacher)])
    method = TopKKD(2)
    torch.testing.assert_close(method(exchange), loss(student.flatten(0, 1), teacher.flatten(0, 1), 2))
    assert method.per_sample(exchange).shape == (2,)


@pytest.mark.parametrize(
    ("indices", "log_probabilities", "tail"),
    [
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 2), torch.zeros(2)),
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3), torch.zeros(2, 1)),
        (torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 2), torch.zeros(3)),
        (torch.zeros(2, 6, dtype=torch.long), torch.zeros(2, 6), torch.zeros(2)),
        (torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0), torch.zeros(2)),
    ],
)
def test_shapes_that_do_not_fit(indices, log_probabilities, tail):
    with pytest.raises(ValueError, match="expected indices and log-probabilities of shape"):
        topk_tail_kl_loss(torch.zeros(2, 5), indices, log_probabilities, tail)


def test_refusals():
    with pytest.raises(ValueError, match="k must be at least 1"):
        TopKKD(k=0)
    with pytest.raises(ValueError, match="same shape"):
        TopKKD()(Exchange((), None, View(torch.zeros(2, 5)), [View(torch.zeros(2, 6))]))
    assert math.isclose(loss(torch.zeros(1, 2), torch.zeros(1, 2), 1).item(), 0)
