"""The virtual step of the last linear layer alone, in closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lightning_kd.callbacks.fusion.step import distillation_losses, task_losses
from lightning_kd.callbacks.fusion.unroll import Parameters, last_layer_alignment
from lightning_kd.callbacks.fusion.virtual import VirtualStudent
from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.methods.base import DistillationMethod


def align_last_layer(
    student: VirtualStudent,
    methods: Sequence[DistillationMethod],
    exchange: Exchange,
    alpha: Tensor,
    rates: Mapping[str, float],
    held_out: Callable[[Parameters], Tensor],
) -> Tensor:
    """Move the last layer by one step and compare each sample with the held-out gradient there.

    Args:
        student: the student as a function of its parameters.
        methods: the distillation methods.
        exchange: the training step.
        alpha: ratios, ``(B,)``; no gradient flows into them.
        rates: learning rates by parameter name.
        held_out: from parameters to the held-out loss.

    Returns:
        The alignment of :func:`~lightning_kd.callbacks.fusion.unroll.last_layer_alignment`, ``(B,)``.

    Raises:
        ValueError: if the layer is not trained, or the distillation losses do not depend on the logits.
    """
    layer, features, view = student.last_layer()
    names = [name for name in (f"{layer}.weight", f"{layer}.bias") if name in rates]
    if f"{layer}.weight" not in names:
        raise ValueError(
            f'unroll="last_layer" moves the weight of {layer.removeprefix("network.")!r}, but no optimizer holds it '
            'under this name (is it frozen, or tied to another layer?); use unroll="jvp"'
        )
    slope, task_slope = _slopes(view, methods, exchange)
    features = features.to(slope.dtype)
    pull = (task_slope + alpha.detach().to(slope.dtype)[:, None] * slope) / len(slope)
    present = student.parameters({name: rates[name] for name in names})
    steps = {f"{layer}.weight": pull.T @ features, f"{layer}.bias": pull.sum(0)}
    moved = {
        name: (present[name] - rates[name] * steps[name].to(present[name].dtype)).requires_grad_() for name in names
    }
    gradients = torch.autograd.grad(held_out(moved), list(moved.values()))
    directions = [rates[name] * gradient.to(slope.dtype) for name, gradient in zip(names, gradients, strict=True)]
    return last_layer_alignment(features, slope, *directions)


def _slopes(view: View, methods: Sequence[DistillationMethod], exchange: Exchange) -> tuple[Tensor, Tensor]:
    """Gradients of every sample's KD - CE, and of its CE, with respect to its logits, each ``(B, C)``."""
    logits = view.logits.detach().requires_grad_()
    seen = dataclasses.replace(exchange, student=View(logits, view.features))
    distillation = distillation_losses(methods, seen)
    if not distillation.requires_grad:
        names = ", ".join(type(method).__name__ for method in methods)
        raise ValueError(
            f'unroll="last_layer" needs distillation losses of the logits, but those of {names} do not depend on '
            'them; use unroll="jvp"'
        )
    (of_distillation,) = torch.autograd.grad(distillation.sum(), logits)
    (of_task,) = torch.autograd.grad(task_losses(logits, exchange.labels).sum(), logits)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return (of_distillation.to(wide) - of_task.to(wide)), of_task.to(wide)
