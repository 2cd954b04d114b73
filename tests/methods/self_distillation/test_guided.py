"""Guided self-distillation: the loss, and the theory of its label weight in kernel ridge regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.methods.self_distillation import (
    GuidedSelfDistillation,
    guided_self_distillation_loss,
    optimal_label_weight,
    progressive_self_distillation_loss,
)

POINTS, RIDGE, GAMMA = 11, 0.2, 80.0


class KernelRidge:
    """Self-distillation in kernel ridge regression, written as recursion: a noisy sine, a radial basis kernel."""

    def __init__(self) -> None:
        self.x = np.linspace(0, 1, POINTS)
        self.grid = np.linspace(0, 1, 101)
        self.truth = np.sin(2 * np.pi * self.grid)
        self.y = np.sin(2 * np.pi * self.x) + np.random.default_rng(0).normal(0, 0.5, POINTS)
        self.kernel = self.between(self.x, self.x)

    @staticmethod
    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-GAMMA * (a[:, None] - b[None]) ** 2)

    def predict(self, target: np.ndarray, at: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
        """Predictions at ``at`` of a model fitted to ``target``."""
        return self.between(at, self.x) @ np.linalg.solve(self.kernel + ridge * np.eye(POINTS), target)

    def targets(self, alpha: float, generation: int) -> np.ndarray:
        """What a generation (from 1) is fitted to."""
        target = self.y
        for _ in range(generation - 1):
            target = alpha * self.y + (1 - alpha) * self.predict(target, self.x)
        return target

    def loss(self, alpha: float, generation: int) -> float:
        return float(np.mean((self.predict(self.targets(alpha, generation), self.grid) - self.truth) ** 2))


@pytest.mark.parametrize("alpha", [0.0, 0.35, 0.7])
def test_the_recursion_has_the_spectral_form(alpha: float) -> None:
    toy = KernelRidge()
    eigenvalues, vectors = np.linalg.eigh(toy.kernel)
    once = eigenvalues / (eigenvalues + RIDGE)
    factor = once
    for generation in range(1, 7):
        expected = vectors @ (factor * (vectors.T @ toy.y))
        np.testing.assert_allclose(toy.predict(toy.targets(alpha, generation), toy.x), expected, atol=1e-12)
        factor = once * ((1 - alpha) * factor + alpha)


@pytest.mark.parametrize("alpha", [0.35, 0.7])
def test_infinite_distillation_is_a_larger_ridge(alpha: float) -> None:
    toy = KernelRidge()
    endless = toy.predict(toy.targets(alpha, 400), toy.grid)
    np.testing.assert_allclose(endless, toy.predict(toy.y, toy.grid, RIDGE / alpha), atol=1e-12)


def test_without_labels_the_predictions_fade() -> None:
    toy = KernelRidge()
    # the published loss of endless distillation without labels: that of predicting zero
    assert toy.loss(0.0, 20_000) == pytest.approx(0.49505, abs=5e-6)
    assert toy.loss(0.35, 20_000) < 0.2


def test_labels_dampen_the_regularisation() -> None:
    """Without labels the loss falls, then rises for good; with labels it settles."""
    toy = KernelRidge()
    without = [toy.loss(0.0, generation) for generation in range(1, 31)]
    lowest = int(np.argmin(without))
    assert 0 < lowest < 10
    assert np.all(np.diff(without[lowest:]) > 0)
    settled = [toy.loss(0.35, generation) for generation in range(20, 25)]
    assert max(settled) - min(settled) < 1e-6
    assert settled[-1] < without[0]


@pytest.mark.parametrize("generation", [2, 3, 4])
def test_the_closed_form_finds_the_best_weight(generation: int) -> None:
    toy = KernelRidge()
    previous = toy.predict(toy.targets(0.2, generation - 1), toy.x)
    g, h = toy.predict(toy.y, toy.grid), toy.predict(previous, toy.grid)
    found = optimal_label_weight(*(torch.from_numpy(values) for values in (g, h, toy.truth)), clip=False)

    def loss(alpha: float) -> float:
        return float(np.mean((toy.predict(alpha * toy.y + (1 - alpha) * previous, toy.grid) - toy.truth) ** 2))

    assert loss(found) <= min(loss(found - 1e-4), loss(found + 1e-4))
    grid = np.linspace(found - 1, found + 1, 201)
    assert min(map(loss, grid)) >= loss(found) - 1e-12


def test_the_weight_is_clipped_and_defined_for_equal_models() -> None:
    g, h = torch.tensor([1.0, 0.0]), torch.zeros(2)
    assert optimal_label_weight(g, h, torch.tensor([1.5, 0.0])) == 1.0
    assert optimal_label_weight(g, h, torch.tensor([1.5, 0.0]), clip=False) == 1.5
    assert optimal_label_weight(g, h, torch.tensor([-0.5, 0.0])) == 0.0
    assert optimal_label_weight(g, g, torch.tensor([0.0, 0.0])) == 1.0
    with pytest.raises(ValueError, match="same shape"):
        optimal_label_weight(g, h, torch.zeros(3))


def test_the_weight_of_a_classifier_takes_class_indices() -> None:
    generator = torch.Generator().manual_seed(0)
    g, h = (torch.randn(20, 4, generator=generator).softmax(-1) for _ in range(2))
    target = torch.randint(4, (20,), generator=generator)
    expected = optimal_label_weight(g, h, F.one_hot(target, 4).float(), clip=False)
    assert optimal_label_weight(g, h, target, clip=False) == pytest.approx(expected)


def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(4, (6,), generator=generator)


@pytest.mark.parametrize("alpha", [0.0, 0.35, 1.0, 1.3])
def test_loss(alpha: float) -> None:
    student, teacher, y = logits()
    hard, soft = F.one_hot(y, 4).double(), teacher.softmax(-1)
    entropy = alpha * F.cross_entropy(student, y) + (1 - alpha) * F.cross_entropy(student, soft)
    torch.testing.assert_close(guided_self_distillation_loss(student, teacher, y, alpha), entropy)
    squared = sum(
        weight * ((student.softmax(-1) - wanted) ** 2).sum(-1).mean()
        for weight, wanted in ((alpha, hard), (1 - alpha, soft))
    )
    torch.testing.assert_close(guided_self_distillation_loss(student, teacher, y, alpha, "mse"), squared)


def test_mixing_losses_is_mixing_targets() -> None:
    student, teacher, y = logits()
    mixed = 0.3 * F.one_hot(y, 4) + 0.7 * teacher.softmax(-1)
    torch.testing.assert_close(
        progressive_self_distillation_loss(student, teacher, y, 0.7), F.cross_entropy(student, mixed)
    )
    (expected,) = torch.autograd.grad(((student.softmax(-1) - mixed) ** 2).sum(-1).mean(), student)
    (found,) = torch.autograd.grad(guided_self_distillation_loss(student, teacher, y, 0.3, "mse"), student)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("objective", ["cross_entropy", "mse"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_extreme_logits_stay_finite(objective: str, dtype: torch.dtype) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    loss = guided_self_distillation_loss(student, teacher, torch.tensor([1]), 0.4, objective)
    loss.backward()
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert teacher.grad is None


def test_the_first_generation_needs_no_teacher() -> None:
    student, _, y = logits()
    method = GuidedSelfDistillation(1.0)
    assert not method.needs_teacher
    assert GuidedSelfDistillation(0.9).needs_teacher
    torch.testing.assert_close(method(Exchange((), y, View(student), [])), F.cross_entropy(student, y))


def test_bad_objective() -> None:
    with pytest.raises(ValueError, match="objective must be one of 'cross_entropy', 'mse', got 'mae'"):
        GuidedSelfDistillation(objective="mae")
