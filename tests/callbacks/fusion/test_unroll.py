"""The three ways to the same meta-gradient, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lightning_kd.callbacks.fusion.unroll import (
    Unrolling,
    full_gradient,
    gradient_from_alignment,
    jvp_alignment,
    last_layer_alignment,
)

CLASSES, WIDTH, TAU = 4, 6, 3.0


class Case:
    """A student, a training and a held-out batch, and a ratio network."""

    def __init__(self, student: nn.Module) -> None:
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.student = student.double()
        self.x, self.y = draw(8, WIDTH), torch.randint(CLASSES, (8,), generator=generator)
        self.teacher = 2 * draw(8, CLASSES)
        self.held_x, self.held_y = draw(5, WIDTH), torch.randint(CLASSES, (5,), generator=generator)
        self.ratios = nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(), nn.Linear(5, 1), nn.Sigmoid()).double()
        self.delta = draw(8, 3)
        parameters = dict(self.student.named_parameters())
        # every parameter has a rate of its own, as with parameter groups
        rates = {name: 0.3 + 0.1 * i for i, name in enumerate(parameters)}
        self.step = Unrolling(
            {name: value.detach() for name, value in parameters.items()}, rates, self.losses, self.held_out
        )

    def run(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        buffers = {name: value.clone() for name, value in self.student.named_buffers()}
        logits: Tensor = functional_call(self.student, {**parameters, **buffers}, (x,))
        return logits

    def losses(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self.run(parameters, self.x)
        student, teacher = F.log_softmax(logits / TAU, -1), F.log_softmax(self.teacher / TAU, -1)
        distillation = TAU**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
        return distillation, F.cross_entropy(logits, self.y, reduction="none")

    def held_out(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return F.cross_entropy(self.run(parameters, self.held_x), self.held_y)

    def alpha(self) -> Tensor:
        alpha: Tensor = self.ratios(self.delta).squeeze(1)
        return alpha

    def held_out_after_step(self, alpha: Tensor) -> Tensor:
        """J(theta'), straight from its definition."""
        leaves = {name: value.clone().requires_grad_() for name, value in self.step.parameters.items()}
        distillation, task = self.losses(leaves)
        loss = (alpha * distillation + (1 - alpha) * task).mean()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        moved = {
            name: leaf - self.step.rates[name] * gradient
            for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
        }
        return self.held_out(moved).detach()

    def by_finite_differences(self) -> list[Tensor]:
        found = []
        for parameter in self.ratios.parameters():
            flat, gradient = parameter.data.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
            for i in range(len(flat)):
                value, values = flat[i].item(), []
                for shift in (1e-5, -1e-5):
                    flat[i] = value + shift
                    values.append(self.held_out_after_step(self.alpha().detach()))
                flat[i] = value
                gradient[i] = (values[0] - values[1]) / 2e-5
            found.append(gradient.view_as(parameter))
        return found


def students() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "linear": nn.Linear(WIDTH, CLASSES),
        "mlp": nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, CLASSES)),
        "batchnorm": nn.Sequential(nn.Linear(WIDTH, 7), nn.BatchNorm1d(7), nn.SiLU(), nn.Linear(7, CLASSES)),
    }


def close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    scale = max(float(gradient.abs().max()) for gradient in expected)
    assert scale > 1e-4
    for left, right in zip(found, expected, strict=True):
        assert float((left - right).abs().max()) < tolerance * scale


@pytest.mark.parametrize("name", ["linear", "mlp", "batchnorm"])
def test_jvp_equals_full_equals_finite_differences(name: str) -> None:
    case = Case(students()[name])
    omega = list(case.ratios.parameters())
    full = full_gradient(case.step, case.alpha(), omega)
    alpha = case.alpha()
    jvp = gradient_from_alignment(jvp_alignment(case.step, alpha), alpha, omega)
    close(jvp, full, 1e-12)
    close(full, case.by_finite_differences(), 1e-7)


@pytest.mark.parametrize("bias", [True, False])
def test_last_layer_is_exact_for_a_linear_student(bias: bool) -> None:
    torch.manual_seed(0)
    case = Case(nn.Linear(WIDTH, CLASSES, bias=bias))
    omega, alpha = list(case.ratios.parameters()), case.alpha()
    parameters = case.step.parameters
    logits = case.run(parameters, case.x)
    # the slope of tau^2 KL - CE, as the closed form has it
    slope = TAU * ((logits / TAU).softmax(-1) - (case.teacher / TAU).softmax(-1))
    truth = F.one_hot(case.y, CLASSES)
    slope = slope - (logits.softmax(-1) - truth)
    # v, the held-out gradient after the step
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    distillation, task = case.losses(leaves)
    loss = (alpha.detach() * distillation + (1 - alpha.detach()) * task).mean()
    moved = {
        name: (leaf - case.step.rates[name] * gradient).detach().requires_grad_()
        for (name, leaf), gradient in zip(leaves.items(), torch.autograd.grad(loss, list(leaves.values())), strict=True)
    }
    v = torch.autograd.grad(case.held_out(moved), list(moved.values()))
    directions = [case.step.rates[name] * value for name, value in zip(moved, v, strict=True)]
    aligned = last_layer_alignment(case.x, slope, *directions)
    torch.testing.assert_close(aligned, jvp_alignment(case.step, alpha), rtol=1e-10, atol=1e-12)
    # sample by sample: the inner product of V with the outer product of slope and features
    for i in range(len(aligned)):
        expected = (directions[0] * torch.outer(slope[i], case.x[i])).sum()
        expected = expected + (directions[1] @ slope[i] if bias else 0.0)
        assert aligned[i].item() == pytest.approx(expected.item(), rel=1e-10)
    close(gradient_from_alignment(aligned, alpha, omega), case.by_finite_differences(), 1e-7)


def test_a_parameter_without_influence_does_not_move() -> None:
    class Spare(nn.Linear):
        def __init__(self) -> None:
            super().__init__(WIDTH, CLASSES)
            self.spare = nn.Parameter(torch.ones(3))

    torch.manual_seed(0)
    case = Case(Spare())
    omega, alpha = list(case.ratios.parameters()), case.alpha()
    jvp = gradient_from_alignment(jvp_alignment(case.step, alpha), alpha, omega)
    close(jvp, full_gradient(case.step, case.alpha(), omega), 1e-12)
