"""The online losses against values computed another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from lightning_kd.methods.online import (
    balanced_divergence_loss,
    expert_mode,
    gap_statistics,
    general_ensemble,
    linear_ensemble,
    min_logit_ensemble,
    mutual_learning_loss,
    naive_ensemble,
)

TEACHER = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.1, 0.2, 0.3, -0.4], [-1.0, 3.0, 1.0, 0.5]], dtype=torch.float64)
STUDENT = torch.tensor([[1.0, 1.5, -0.5, 0.2], [1.0, -0.2, 0.0, 0.5], [0.0, 0.5, 2.0, -1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1])
FORWARD = torch.tensor([0.37272868, 0.19075929, 1.12906826], dtype=torch.float64)
REVERSE = torch.tensor([0.39800823, 0.18112333, 1.22637613], dtype=torch.float64)
ENSEMBLES = [naive_ensemble, linear_ensemble, min_logit_ensemble, general_ensemble]


def random_networks(count: int = 3, batch: int = 16, classes: int = 5, seed: int = 0) -> tuple[list, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (batch,), generator=generator)
    hint = 2 * F.one_hot(target, classes)
    shape = (batch, classes)
    return [hint * i + torch.randn(shape, generator=generator, dtype=torch.float64) for i in range(count)], target


def softmax(logits: torch.Tensor) -> np.ndarray:
    exponentials = np.exp(logits.numpy() - logits.numpy().max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


# balanced divergence


@pytest.mark.parametrize(("delta", "expected"), [(2.0, 1.7710691986184), (3.0, 2.3761170850192)])
def test_balanced_divergence(delta: float, expected: float) -> None:
    assert balanced_divergence_loss(STUDENT, TEACHER, delta).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("hard", (torch.tensor([1, 2, 1]) * FORWARD + torch.tensor([2, 1, 2]) * REVERSE).mean()),
        ("none", (FORWARD + REVERSE).mean()),
        ("forward", FORWARD.mean()),
        ("reverse", REVERSE.mean()),
    ],
)
def test_weighting(weighting: str, expected: torch.Tensor) -> None:
    loss = balanced_divergence_loss(STUDENT, TEACHER, 2.0, weighting=weighting)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-7)


def test_entropies_are_taken_where_asked() -> None:
    # sharp but broad-tailed against flat-topped: which one has more entropy changes with the temperature
    student = torch.tensor([[5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[5.0, 5.0, -20.0, -20.0, -20.0, -20.0, -20.0, -20.0]], dtype=torch.float64)
    temperature = 5.0
    tempered, untempered = (
        balanced_divergence_loss(student, teacher, 3.0, temperature, entropy_on=where)
        for where in ("tempered", "untempered")
    )
    log_student, log_teacher = (F.log_softmax(x / temperature, -1) for x in (student, teacher))
    forward = (log_teacher.exp() * (log_teacher - log_student)).sum()
    reverse = (log_student.exp() * (log_student - log_teacher)).sum()
    assert untempered.item() == pytest.approx((temperature**2 * (3 * forward + reverse)).item())
    assert tempered.item() == pytest.approx((temperature**2 * (forward + 3 * reverse)).item())


def test_a_tie_is_weighed_once() -> None:
    student, teacher = STUDENT[:1], STUDENT[:1, [1, 0, 2, 3]]
    tie = balanced_divergence_loss(student, teacher, 5.0)
    assert tie.item() == pytest.approx(balanced_divergence_loss(student, teacher, weighting="none").item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("weighting", ["hard", "reverse"])
def test_extreme_logits_stay_finite(dtype: torch.dtype, weighting: str) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype)
    loss = balanced_divergence_loss(student, teacher, weighting=weighting)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"delta": -1.0}, "delta must not be negative, got -1.0"),
        ({"weighting": "soft"}, "weighting must be one of 'hard', 'none', 'forward', 'reverse', got 'soft'"),
        ({"entropy_on": "both"}, "entropy_on must be one of 'untempered', 'tempered', got 'both'"),
    ],
)
def test_bad_options_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        balanced_divergence_loss(STUDENT, TEACHER, **arguments)


# mutual learning


def test_mutual_learning_averages_over_the_peers() -> None:
    loss = mutual_learning_loss(STUDENT, [TEACHER, STUDENT])
    assert loss.item() == pytest.approx(FORWARD.mean().item() / 2, rel=1e-7)
    with pytest.raises(ValueError, match="at least one peer"):
        mutual_learning_loss(STUDENT, [])


# ensembles


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensembles_of_one_network_are_that_network(ensemble) -> None:
    networks, target = random_networks(1)
    torch.testing.assert_close(ensemble(networks, target).softmax(-1), networks[0].softmax(-1))


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensembles_carry_no_gradient_and_stay_finite(ensemble) -> None:
    first = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, -1e4]], requires_grad=True)
    for other in (-first, first):
        result = ensemble([first, other], torch.tensor([1, 1]))
        assert not result.requires_grad
        assert result.isfinite().all()


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensembles_refuse_bad_input(ensemble) -> None:
    networks, target = random_networks()
    with pytest.raises(ValueError, match="at least one network"):
        ensemble([], target)
    with pytest.raises(ValueError, match="same shape"):
        ensemble([networks[0], networks[1][:, :-1]], target)
    with pytest.raises(ValueError, match="class indices"):
        ensemble(networks, target.float())


def test_naive_ensemble_takes_the_best_network_of_each_sample() -> None:
    networks, target = random_networks()
    result = naive_ensemble(networks, target)
    for row in range(len(target)):
        losses = [-np.log(softmax(logits)[row, target[row]]) for logits in networks]
        assert torch.equal(result[row], networks[int(np.argmin(losses))][row])


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_linear_ensemble_finds_the_optimum(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(6, (32,), generator=generator)
    hint = F.one_hot(target, 6)
    networks = [torch.randn(32, 6, generator=generator, dtype=torch.float64) + hint for _ in range(count)]
    stacked = np.stack([logits.numpy() for logits in networks])

    def loss(weights: np.ndarray) -> float:
        combined = torch.from_numpy(np.tensordot(weights, stacked, 1))
        return F.cross_entropy(combined, target).item()

    best = minimize(
        loss,
        np.full(count, 1 / count),
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-12},
    )
    assert F.cross_entropy(linear_ensemble(networks, target), target).item() == pytest.approx(best.fun, abs=1e-4)


def test_linear_ensemble_is_never_worse_than_any_network() -> None:
    for seed in range(20):
        networks, target = random_networks(3, batch=4, seed=seed)
        scaled = [30 * logits for logits in networks]
        found = F.cross_entropy(linear_ensemble(scaled, target), target)
        assert all(found <= F.cross_entropy(logits, target) for logits in [*scaled, torch.stack(scaled).mean(0)])


def test_min_logit_ensemble_is_surest_of_the_label() -> None:
    networks, target = random_networks()
    result = min_logit_ensemble(networks, target)
    rows = torch.arange(len(target))
    assert torch.equal(result[rows, target], torch.zeros(len(target), dtype=torch.float64))
    expected = np.min([logits.numpy() - logits.numpy()[rows, target][:, None] for logits in networks], axis=0)
    np.testing.assert_allclose(result.numpy(), expected)
    losses = torch.stack([F.cross_entropy(logits, target, reduction="none") for logits in networks])
    assert (F.cross_entropy(result, target, reduction="none") <= losses.min(0).values + 1e-12).all()


def test_general_ensemble_minimises_the_estimated_error() -> None:
    networks, target = random_networks(2)
    errors = [softmax(logits) - F.one_hot(target, 5).numpy() for logits in networks]
    correlation = np.array([[(a * b).sum(-1).mean() for b in errors] for a in errors])
    grid = np.linspace(0, 1, 10001)
    weights = np.stack([grid, 1 - grid])
    best = weights[:, np.einsum("ig,ij,jg->g", weights, correlation, weights).argmin()]
    expected = best[0] * networks[0] + best[1] * networks[1]
    torch.testing.assert_close(general_ensemble(networks, target), expected, rtol=0, atol=2e-3)


def test_general_ensemble_of_equal_networks_is_their_mean() -> None:
    networks, target = random_networks(1)
    torch.testing.assert_close(general_ensemble(networks * 3, target), networks[0])


# the switch


@pytest.mark.parametrize("seed", range(6))
def test_expert_mode_against_the_formula(seed: int) -> None:
    networks, target = random_networks(2, seed=seed)
    student, teacher = networks if seed % 2 else networks[::-1]
    label = F.one_hot(target, 5).numpy()
    gap = np.abs(softmax(student) - softmax(teacher)).sum(-1).mean()
    a = np.abs(softmax(student) - label).sum(-1).mean()
    b = np.abs(softmax(teacher) - label).sum(-1).mean()
    expected = gap > a - np.exp(-b / (a + b)) * b and b < a
    halves = [gap_statistics(student[part], teacher[part], target[part]) for part in (slice(0, 5), slice(5, None))]
    assert bool(expert_mode(sum(halves))) == expected
    assert bool(expert_mode(gap_statistics(student, teacher, target))) == expected


def test_both_modes_occur() -> None:
    target = torch.tensor([0, 1])
    rival = F.one_hot(target + 1, 4)
    better = 9.0 * F.one_hot(target, 4) + 8.6 * rival  # right, but with a strong opinion on the second place
    unsure = torch.zeros(2, 4)
    assert expert_mode(gap_statistics(unsure, better, target))
    assert not expert_mode(gap_statistics(better, unsure, target))
    assert not expert_mode(gap_statistics(better, better, target))
    perfect = 1e4 * F.one_hot(target, 4).float()
    assert not expert_mode(gap_statistics(perfect, perfect, target))
