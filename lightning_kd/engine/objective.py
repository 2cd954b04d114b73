"""The total loss: the task and the methods, with fixed weights, schedules or a sample-wise fusion ratio."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_kd.engine.exchange import Exchange, Progress
from lightning_kd.methods.base import DistillationMethod, Weight

Terms = dict[str, Tensor]


class Fusion(Protocol):
    """Combines the task and the distillation loss sample by sample, in place of fixed weights."""

    def fuse(self, exchange: Exchange, distillation: Tensor) -> Tensor:
        """Return the scalar loss, given the per-sample distillation losses ``(B,)``."""
        ...


class Objective:
    """Adds up ``task_weight * task + Σ weight_i * method_i``.

    Args:
        methods: the methods.
        task_weight: factor of the task loss.

    Attributes:
        names: the methods' names in logs; a second method of one kind gets a number.
        fusion: replaces the fixed weights of methods with per-sample losses, if set.
    """

    def __init__(self, methods: Sequence[DistillationMethod], task_weight: Weight) -> None:
        self.methods, self.task_weight = list(methods), task_weight
        self.names = _unique_names(self.methods)
        self.fusion: Fusion | None = None

    def total(self, task_loss: Tensor, exchanges: Iterable[Exchange], progress: Progress) -> tuple[Tensor, Terms]:
        """Return the total over the student's calls of one step, and the unweighted terms for the log.

        Args:
            task_loss: the student's own loss.
            exchanges: one exchange a call; their terms add up.
            progress: how far training has come.

        Raises:
            TypeError: if a method does not return a scalar.
            ValueError: if a fusion ratio meets no method with per-sample losses.
        """
        terms: Terms = {"task": task_loss.detach()}
        parts = [] if self.fusion else [_at(self.task_weight, progress) * task_loss]
        for exchange in exchanges:
            if self.fusion is not None:
                parts.append(self._fuse(self.fusion, exchange, terms))
            for name, method in zip(self.names, self.methods, strict=True):
                if self.fusion is None or not method.has_per_sample:
                    term = _evaluate(method, exchange)
                    parts.append(method.weight_at(progress) * term)
                    _add(terms, name, term)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total, terms

    def _fuse(self, fusion: Fusion, exchange: Exchange, terms: Terms) -> Tensor:
        losses: Tensor | None = None
        for name, method in zip(self.names, self.methods, strict=True):
            if method.has_per_sample:
                each = sample_losses(method, exchange)
                _add(terms, name, each.mean())
                weighted = method.weight_at(exchange.progress) * each
                losses = weighted if losses is None else losses + weighted
        if losses is None:
            raise ValueError(
                "a fusion ratio needs a method with per-sample losses, such as KD, but none of "
                f"{', '.join(self.names)} has them"
            )
        return fusion.fuse(exchange, losses)


def sample_losses(method: DistillationMethod, exchange: Exchange) -> Tensor:
    """The unweighted losses of the samples, ``(B,)``: their means over the teachers, as in the method's own term."""
    if method.uses_all_teachers or len(exchange.teachers) < 2:
        return method.per_sample(exchange)
    losses = [method.per_sample(dataclasses.replace(exchange, teachers=[view])) for view in exchange.teachers]
    return torch.stack(losses).mean(0)


def _evaluate(method: DistillationMethod, exchange: Exchange) -> Tensor:
    if method.uses_all_teachers or len(exchange.teachers) < 2:
        return _scalar(method(exchange), method)
    terms = [_scalar(method(dataclasses.replace(exchange, teachers=[view])), method) for view in exchange.teachers]
    return torch.stack(terms).mean()


def _scalar(term: Any, method: DistillationMethod) -> Tensor:
    if not isinstance(term, Tensor) or term.dim() != 0:
        given = f"shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
        raise TypeError(
            f"{type(method).__name__}.forward must return a scalar tensor, got {given}; reduce over the batch"
        )
    return term


def _add(terms: Terms, name: str, term: Tensor) -> None:
    terms[name] = terms[name] + term.detach() if name in terms else term.detach()


def _at(weight: Weight, progress: Progress) -> float:
    return weight(progress) if callable(weight) else weight


def _unique_names(methods: Sequence[DistillationMethod]) -> list[str]:
    names: list[str] = []
    for method in methods:
        count = sum(other.split("-")[0] == method.name for other in names)
        names.append(method.name if count == 0 else f"{method.name}-{count + 1}")
    return names
