r"""The gradient of the held-out loss with respect to the ratio network, through one virtual step of the student.

The student would go from :math:`\theta` to

.. math:: \theta' = \theta - \eta\,\nabla_\theta \frac1B \sum_i \alpha_i\,\mathrm{KD}_i + (1 - \alpha_i)\,\mathrm{CE}_i

and the ratio network :math:`\omega` descends :math:`J(\theta')`, the loss of held-out samples. As the step is linear in
:math:`\alpha`,

.. math:: \nabla_\omega J = -\frac1B \sum_i c_i\,\nabla_\omega \alpha_i, \qquad
    c_i = \big\langle \eta\,\nabla_\theta J(\theta'),\ \nabla_\theta (\mathrm{KD}_i - \mathrm{CE}_i)(\theta) \big\rangle

so no second-order graph is needed: :math:`c_i` says how much the sample's extra distillation gradient agrees with the
gradient on held-out data. ``full`` differentiates through the step, ``jvp`` evaluates :math:`c` by forward-mode
differentiation, and the last layer alone has a closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Parameters = Mapping[str, Tensor]

_forward_ad: Any = forward_ad  # torch leaves these functions untyped


@dataclass(frozen=True)
class Unrolling:
    """One virtual step.

    Attributes:
        parameters: the student's parameters that would move, without history.
        rates: their learning rates.
        losses: from parameters to the per-sample distillation and task losses of the training batch, each ``(B,)``;
            must give the same values for the same parameters.
        held_out: from parameters to the loss of the held-out batch, a scalar.
    """

    parameters: Parameters
    rates: Mapping[str, float]
    losses: Callable[[Parameters], tuple[Tensor, Tensor]]
    held_out: Callable[[Parameters], Tensor]


def full_gradient(step: Unrolling, alpha: Tensor, omega: Sequence[Tensor]) -> list[Tensor]:
    """Differentiate the held-out loss through the virtual step.

    Args:
        step: the virtual step.
        alpha: ratios, ``(B,)``, with their graph.
        omega: what to differentiate with respect to.

    Returns:
        One gradient for each of ``omega``.
    """
    leaves = _leaves(step.parameters)
    distillation, task = step.losses(leaves)
    ratio = alpha.to(task.dtype)
    moved = _moved(step, leaves, (ratio * distillation + (1.0 - ratio) * task).mean(), create_graph=True)
    return _gradients(step.held_out(moved), omega)


def jvp_alignment(step: Unrolling, alpha: Tensor) -> Tensor:
    """How much each sample's extra distillation gradient agrees with the held-out gradient: ``c`` above.

    Args:
        step: the virtual step.
        alpha: ratios, ``(B,)``; no gradient flows into them.

    Returns:
        ``(B,)``.
    """
    leaves = _leaves(step.parameters)
    distillation, task = step.losses(leaves)
    ratio = alpha.detach().to(task.dtype)
    moved = _moved(step, leaves, (ratio * distillation + (1.0 - ratio) * task).mean())
    moved = _leaves(moved)
    direction = _gradients(step.held_out(moved), list(moved.values()))
    with forward_ad.dual_level():
        duals = {
            name: _forward_ad.make_dual(parameter.detach(), step.rates[name] * tangent)
            for (name, parameter), tangent in zip(step.parameters.items(), direction, strict=True)
        }
        distillation, task = step.losses(duals)
        alignment = _forward_ad.unpack_dual(distillation - task).tangent
    return torch.zeros_like(task) if alignment is None else alignment.detach()


def last_layer_alignment(
    features: Tensor,
    slope: Tensor,
    weight_direction: Tensor,
    bias_direction: Tensor | None = None,
) -> Tensor:
    r"""The alignment :math:`c` when only the last linear layer moves: :math:`c_i = g_i^\top (V f_i + v)`.

    For the classical distillation loss, :math:`g_i = \tau\,(p^s_\tau - p^t_\tau) - (p^s - y)`.

    Args:
        features: inputs of the layer, ``(B, D)``.
        slope: ``g``, the gradients of :math:`\mathrm{KD}_i - \mathrm{CE}_i` with respect to the logits, ``(B, C)``.
        weight_direction: ``V``, learning rate times held-out gradient of the layer's weight, ``(C, D)``.
        bias_direction: ``v``, the same for its bias, ``(C,)``; or ``None`` without a bias.

    Returns:
        ``(B,)``.
    """
    pushed = features @ weight_direction.T
    if bias_direction is not None:
        pushed = pushed + bias_direction
    return (slope * pushed).sum(-1)


def gradient_from_alignment(alignment: Tensor, alpha: Tensor, omega: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of the held-out loss, by the chain rule through the ratios alone.

    Args:
        alignment: ``c``, ``(B,)``.
        alpha: ratios, ``(B,)``, with their graph.
        omega: what to differentiate with respect to.

    Returns:
        One gradient for each of ``omega``.
    """
    return _gradients(-(alignment.detach().to(alpha.dtype) * alpha).mean(), omega)


def _moved(step: Unrolling, leaves: Parameters, loss: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=create_graph, allow_unused=True)
    return {
        name: leaf if gradient is None else leaf - step.rates[name] * gradient
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


def _gradients(value: Tensor, variables: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(value, variables, allow_unused=True)
    return [
        torch.zeros_like(variable) if gradient is None else gradient
        for variable, gradient in zip(variables, found, strict=True)
    ]


def _leaves(parameters: Parameters) -> dict[str, Tensor]:
    return {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
