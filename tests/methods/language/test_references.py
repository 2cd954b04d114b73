"""Token losses against slow references in float64, and the identities between them."""

from __future__ import annotations

import pytest
import torch

from lightning_kd.methods.language import (
    adaptive_kl_loss,
    forward_kl_loss,
    reverse_kl_loss,
    skew_forward_kl_loss,
    skew_reverse_kl_loss,
    taid_loss,
    topk_decoupled_kl_loss,
    total_variation_loss,
)

SHAPE = (2, 3, 7)
MASK = torch.tensor([[True, True, False], [False, True, True]])


@pytest.fixture
def student():
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def teacher():
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def softmax(row, temperature=1.0):
    powers = [(value / temperature).exp() for value in row]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * (a / b).log() for a, b in zip(p, q, strict=True))


def average(student, teacher, per_token):
    values = [
        per_token(student[b, t], teacher[b, t]) for b in range(SHAPE[0]) for t in range(SHAPE[1]) if MASK[b, t].item()
    ]
    return sum(values) / len(values)


def mixture(p, q, alpha):
    return [alpha * a + (1 - alpha) * b for a, b in zip(p, q, strict=True)]


def adaptive(s, t):
    p, q = softmax(t), softmax(s)
    order = sorted(range(SHAPE[2]), key=lambda v: -p[v].item())
    head, mass = [], 0.0
    for v in order:
        mass += p[v].item()
        if mass > 0.5 and head:
            break
        head.append(v)
        if mass > 0.5:
            break
    gaps = [abs(p[v].item() - q[v].item()) for v in range(SHAPE[2])]
    share = sum(gaps[v] for v in head) / sum(gaps)
    return share * kl(p, q) + (1 - share) * kl(q, p)


def top_k(s, t):
    order = sorted(range(SHAPE[2]), key=lambda v: -t[v].item())[:3]
    p, q = softmax(t), softmax(s)
    p_mass, q_mass = sum(p[v] for v in order), sum(q[v] for v in order)
    p_inside, q_inside = softmax([t[v] for v in order], 2.0), softmax([s[v] for v in order], 2.0)
    return kl([p_mass, 1 - p_mass], [q_mass, 1 - q_mass]) + p_mass * kl(p_inside, q_inside)


def taid(s, t):
    target = softmax([0.7 * a.detach() + 0.3 * b for a, b in zip(s, t, strict=True)])
    return kl(target, softmax(s))


CASES = {
    "adaptive": (adaptive_kl_loss, adaptive),
    "forward": (forward_kl_loss, lambda s, t: kl(softmax(t), softmax(s))),
    "reverse": (reverse_kl_loss, lambda s, t: kl(softmax(s), softmax(t))),
    "skew forward": (
        lambda s, t, m: skew_forward_kl_loss(s, t, m, 0.2),
        lambda s, t: kl(softmax(t), mixture(softmax(t), softmax(s), 0.2)),
    ),
    "skew reverse": (
        lambda s, t, m: skew_reverse_kl_loss(s, t, m, 0.2),
        lambda s, t: kl(softmax(s), mixture(softmax(s), softmax(t), 0.2)),
    ),
    "taid": (lambda s, t, m: taid_loss(s, t, m, 0.3), taid),
    "top-k": (lambda s, t, m: topk_decoupled_kl_loss(s, t, m, 3, 2.0), top_k),
    "total variation": (
        total_variation_loss,
        lambda s, t: sum((a - b).abs() for a, b in zip(softmax(t), softmax(s), strict=True)) / 2,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name, student, teacher):
    loss, reference = CASES[name]
    actual, expected = loss(student, teacher, MASK), average(student, teacher, reference)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (actual, expected)))


@pytest.mark.parametrize("name", CASES)
def test_masked_tokens_do_not_matter(name, student, teacher):
    loss, _ = CASES[name]
    value = loss(student, teacher, MASK)
    (gradient,) = torch.autograd.grad(value, student)
    assert not gradient[~MASK].any()
    spoiled = torch.where(MASK.unsqueeze(-1), student, 1e4)
    assert loss(spoiled, teacher, MASK).item() == pytest.approx(value.item(), rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_no_valid_token_gives_zero_and_no_gradient(name, student, teacher):
    loss = CASES[name][0](student, teacher, torch.zeros_like(MASK))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert not gradient.any()


@pytest.mark.parametrize("name", CASES)
def test_without_a_mask_all_tokens_count(name, student, teacher):
    loss, _ = CASES[name]
    torch.testing.assert_close(loss(student, teacher, None), loss(student, teacher, torch.ones_like(MASK)))


def test_top_k_of_everything_is_the_forward_kl(student, teacher):
    torch.testing.assert_close(
        topk_decoupled_kl_loss(student, teacher, MASK, SHAPE[2]), forward_kl_loss(student, teacher, MASK)
    )


def test_top_k_at_temperature_one_is_the_kl_with_one_bucket_for_the_rest(student, teacher):
    order = teacher.argsort(-1, descending=True)

    def bucketed(logits):
        probabilities = logits.softmax(-1).gather(-1, order)
        return torch.cat([probabilities[..., :3], probabilities[..., 3:].sum(-1, keepdim=True)], -1).log()

    loss = topk_decoupled_kl_loss(student, teacher, MASK, 3)
    torch.testing.assert_close(loss, forward_kl_loss(bucketed(student), bucketed(teacher), MASK))


def test_taid_moves_from_nothing_to_the_forward_kl(student, teacher):
    assert taid_loss(student, teacher, MASK, 0.0).item() == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(taid_loss(student, teacher, MASK, 1.0), forward_kl_loss(student, teacher, MASK))


def test_taid_gradient_is_the_difference_of_the_distributions(student, teacher):
    (gradient,) = torch.autograd.grad(taid_loss(student, teacher, None, 0.4), student)
    target = (0.6 * student.detach() + 0.4 * teacher).softmax(-1)
    torch.testing.assert_close(gradient, (student.softmax(-1) - target) / 6)


def test_skew_of_zero_is_the_plain_divergence(student, teacher):
    torch.testing.assert_close(
        skew_forward_kl_loss(student, teacher, MASK, 0.0), forward_kl_loss(student, teacher, MASK)
    )
    torch.testing.assert_close(
        skew_reverse_kl_loss(student, teacher, MASK, 0.0), reverse_kl_loss(student, teacher, MASK)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda s, t: forward_kl_loss(s, t[..., 1:]),
        lambda s, t: forward_kl_loss(s, t, MASK[:, :2]),
        lambda s, t: skew_forward_kl_loss(s, t, None, 1.0),
        lambda s, t: skew_reverse_kl_loss(s, t, None, -0.1),
        lambda s, t: adaptive_kl_loss(s, t, None, 0.0),
        lambda s, t: taid_loss(s, t, None, 1.1),
        lambda s, t: topk_decoupled_kl_loss(s, t, None, 8),
        lambda s, t: topk_decoupled_kl_loss(s, t, None, 3, 0.0),
        lambda s, t: topk_decoupled_kl_loss(s, t, MASK[0], 3),
    ],
)
def test_wrong_arguments_are_refused(call, student, teacher):
    with pytest.raises(ValueError, match="got"):
        call(student, teacher)
