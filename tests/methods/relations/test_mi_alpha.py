import math

import pytest
import torch

from lightning_kd.methods.relations import MIAlpha, mi_alpha_loss
from lightning_kd.testing import Rig


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(scores, log_baseline, alpha):
    """The bound, one index at a time, in plain exponentials."""
    batch = len(scores)

    def m(i, j):
        others = [scores[i, k].exp() for k in range(batch) if k != j]
        return alpha * log_baseline[i].exp() + (1 - alpha) * sum(others) / len(others)

    pairs = [(i, j) for i in range(batch) for j in range(batch) if i != j]
    joint = sum(scores[i, i] - m(i, j).log() for i, j in pairs) / len(pairs)
    marginal = sum((scores[i, j] - m(i, i).log()).exp() for i, j in pairs) / len(pairs)
    return -(1 + joint - marginal)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("batch", [2, 5])
def test_equals_the_bound_of_the_paper(alpha, batch):
    scores, log_baseline = draw(batch, batch).requires_grad_(), draw(batch, seed=1).requires_grad_()
    loss, expected = mi_alpha_loss(scores, log_baseline, alpha), reference(scores, log_baseline, alpha)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(loss, scores, retain_graph=True)[0],
        torch.autograd.grad(expected, scores, retain_graph=True)[0],
        rtol=1e-8,
        atol=1e-12,
    )
    if alpha > 0:
        torch.testing.assert_close(
            torch.autograd.grad(loss, log_baseline)[0], torch.autograd.grad(expected, log_baseline)[0]
        )


def test_the_ends_are_limits_of_the_middle():
    scores, log_baseline = draw(4, 4), draw(4, seed=1)
    for end, near in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
        torch.testing.assert_close(
            mi_alpha_loss(scores, log_baseline, end), mi_alpha_loss(scores, log_baseline, near), rtol=1e-6, atol=1e-6
        )


def test_the_contrastive_end_ignores_the_baseline():
    scores, log_baseline = draw(4, 4).requires_grad_(), torch.full((4,), math.nan, dtype=torch.float64)
    loss = mi_alpha_loss(scores, log_baseline, 0.0)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


def test_a_perfect_critic_reaches_a_finite_bound():
    batch = 8
    scores = 100 * torch.eye(batch)
    # every term compares the positive with the mean over B - 1 others, itself included
    assert mi_alpha_loss(scores, torch.zeros(batch), 0.0).item() == pytest.approx(-math.log(batch - 1), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.99])
def test_large_scores_are_finite_below_one(alpha):
    scores, log_baseline = (1e4 * draw(6, 6)).float().requires_grad_(), (1e4 * draw(6, seed=1)).float()
    loss = mi_alpha_loss(scores, log_baseline, alpha)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


def test_refusals():
    with pytest.raises(ValueError, match="at least two"):
        mi_alpha_loss(torch.zeros(1, 1), torch.zeros(1))
    with pytest.raises(ValueError, match="alpha must be"):
        MIAlpha(alpha=1.5)
    with pytest.raises(ValueError, match="scores"):
        mi_alpha_loss(torch.zeros(3, 2), torch.zeros(3))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_every_parameter_of_the_critics_is_trained(alpha):
    rig = Rig(lambda: MIAlpha(alpha))
    rig.method(rig.exchange()).backward()
    assert all(parameter.grad is not None for parameter in rig.method.parameters())
