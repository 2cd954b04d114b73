"""From a recipe to optimizer and schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from kd_bench.recipe import SGD, AdamW, Constant, Cosine, MultiStep, Recipe

_WARMUP_START = 0.001
_NORMALIZATION = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(
    recipe: Recipe, parameters: Iterable[nn.Parameter], biases: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """The recipe's optimizer.

    Args:
        recipe: the recipe.
        parameters: what is optimized.
        biases: those of them that a recipe may treat apart, see :func:`biases_of`.
    """
    settings = recipe.optimizer
    groups = _groups(list(parameters), settings, {id(bias) for bias in biases})
    if isinstance(settings, SGD):
        return torch.optim.SGD(
            groups,
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        )
    return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, betas=settings.betas)


def biases_of(network: nn.Module) -> list[nn.Parameter]:
    """The biases of a network, but for those of normalization."""
    return [
        bias
        for module in network.modules()
        if not isinstance(module, _NORMALIZATION)
        for name, bias in module.named_parameters(recurse=False)
        if name == "bias"
    ]


def _groups(parameters: list[nn.Parameter], settings: SGD | AdamW, biases: set[int]) -> list[Any]:
    """Parameters as an optimizer takes them: a list, or groups with settings of their own."""
    apart = isinstance(settings, SGD) and (settings.bias_lr != 1.0 or not settings.decay_biases)
    if settings.decay_vectors and not apart:
        return parameters
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in parameters:
        lr, decays = 1.0, settings.decay_vectors or parameter.ndim > 1
        if isinstance(settings, SGD) and id(parameter) in biases:
            lr, decays = settings.bias_lr, decays and settings.decay_biases
        groups.setdefault((lr, decays), []).append(parameter)
    return [
        {
            "params": members,
            **({} if lr == 1.0 else {"lr": lr * settings.lr}),
            **({} if decays else {"weight_decay": 0.0}),
        }
        # those that are treated as usual come first
        for (lr, decays), members in sorted(groups.items(), key=lambda group: (group[0][0] != 1.0, not group[0][1]))
    ]


def build_schedule(recipe: Recipe, optimizer: Optimizer, total_steps: int) -> dict[str, Any] | None:
    """The recipe's schedule in the form that Lightning expects, or ``None`` for a constant learning rate.

    Args:
        recipe: the recipe.
        optimizer: what to schedule.
        total_steps: optimizer steps of the whole training.
    """
    schedule = recipe.schedule
    if isinstance(schedule, Constant):
        return None
    if isinstance(schedule, MultiStep) and schedule.warmup_steps:
        rise = multi_step_factor(schedule, total_steps / recipe.epochs)
        return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, rise), "interval": "step"}
    if isinstance(schedule, MultiStep):
        steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(schedule.milestones), schedule.gamma)
        return {"scheduler": steps, "interval": "epoch"}
    if isinstance(schedule, Cosine):
        factor = cosine_factor(schedule, recipe.optimizer.lr, recipe.epochs)
        return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "interval": "epoch"}
    # the momentum stays the optimizer's
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.optimizer.lr, total_steps=total_steps, pct_start=schedule.warmup, cycle_momentum=False
    )
    return {"scheduler": cycle, "interval": "step"}


def multi_step_factor(schedule: MultiStep, steps_per_epoch: float) -> Callable[[int], float]:
    """What the learning rate is multiplied with in each step.

    Args:
        schedule: milestones and warm-up.
        steps_per_epoch: optimizer steps of an epoch.
    """

    def factor(step: int) -> float:
        passed = sum(step >= round(milestone * steps_per_epoch) for milestone in schedule.milestones)
        share = min(1.0, step / schedule.warmup_steps) if schedule.warmup_steps else 1.0
        return float(schedule.gamma**passed * (_WARMUP_START + (1 - _WARMUP_START) * share))

    return factor


def cosine_factor(schedule: Cosine, lr: float, epochs: int) -> Callable[[int], float]:
    """What the learning rate is multiplied with in each epoch.

    Args:
        schedule: warm-up and minimum.
        lr: the recipe's learning rate, where the cosine starts.
        epochs: epochs of the whole training.
    """

    def factor(epoch: int) -> float:
        if epoch < schedule.warmup:
            rate = schedule.warmup_lr + epoch * (lr - schedule.warmup_lr) / schedule.warmup
        else:
            rate = schedule.minimum + (lr - schedule.minimum) * (1 + math.cos(math.pi * epoch / epochs)) / 2
        return rate / lr

    return factor
