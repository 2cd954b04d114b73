"""What a recipe is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from lightning_kd.engine.exchange import Progress
from lightning_kd.methods import discover
from lightning_kd.methods.base import DistillationMethod, Weight
from lightning_kd.schedules import Linear, Schedule, WarmUp

Protocol = Literal["cifar100", "imagenet"]
"""The benchmark that a recipe was published for."""


@dataclass(frozen=True)
class Ramp:
    """A linear warm-up of a term's weight, epoch by epoch.

    Attributes:
        epochs: epochs until the full weight.
        first_epoch: number of the first epoch in the authors' loop: from 1 the weight starts at ``1 / epochs``, from 0
            it starts at zero.
    """

    epochs: int
    first_epoch: Literal[0, 1] = 1

    def schedule(self) -> Schedule:
        """The factor of the weight.

        >>> Ramp(20).schedule()(Progress(epoch=0)), Ramp(20, first_epoch=0).schedule()(Progress(epoch=0))
        (0.05, 0.0)
        """
        return WarmUp(self.epochs) if self.first_epoch == 1 else Linear(0.0, 1.0, epochs=self.epochs)


@dataclass(frozen=True)
class Term:
    """One method of a recipe.

    Attributes:
        method: name of a class in :mod:`lightning_kd.methods`.
        weight: factor in the total loss.
        arguments: its other constructor arguments where they are not the defaults, or are worth reading.
        ramp: how the weight warms up, if it does.
    """

    method: str
    weight: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ramp: Ramp | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))


@dataclass(frozen=True)
class Stage:
    """A part of the training in which only some losses count.

    Attributes:
        name: what it is for.
        epochs: its length; ``None`` for the rest of the training.
        task: whether the student's own loss counts.
        terms: whether the methods count.
    """

    name: str
    epochs: int | None
    task: bool
    terms: bool


@dataclass(frozen=True)
class Recipe:
    """How a method is weighted where its numbers were published.

    Attributes:
        name: what the method, or combination of methods, is called.
        protocol: the benchmark.
        task_weight: factor of the student's own loss.
        terms: the methods.
        source: repository, commit and place where the values stand.
        pair: ``"teacher->student"`` if the values are meant for one pair, else ``None``.
        stages: parts of the training with different losses; empty if there is only one.
        note: what else differs from the protocol, or is not the authors'.
    """

    name: str
    protocol: Protocol
    task_weight: float
    terms: tuple[Term, ...]
    source: str
    pair: str | None = None
    stages: tuple[Stage, ...] = ()
    note: str = ""

    def build(self) -> tuple[list[DistillationMethod], Weight]:
        """Make the methods.

        Returns:
            What ``Distillation`` and ``DistillationModule`` take as ``method`` and ``task_weight``: fresh methods with
            their weights (schedules where there is a warm-up or a stage), and the factor of the student's own loss.
        """
        classes = discover()
        methods = [classes[term.method](**term.arguments, weight=self._term_weight(term)) for term in self.terms]
        return methods, self._staged(self.task_weight, "task")

    def _term_weight(self, term: Term) -> Weight:
        weight = self._staged(term.weight, "terms")
        if term.ramp is None:
            return weight
        return term.ramp.schedule() * weight if isinstance(weight, int | float | Schedule) else weight

    def _staged(self, weight: float, what: Literal["task", "terms"]) -> Weight:
        if not self.stages:
            return weight
        first = 0
        windows: list[tuple[int, int | None]] = []
        for stage in self.stages:
            last = None if stage.epochs is None else first + stage.epochs
            if getattr(stage, what):
                windows.append((first, last))
            first = last or first
        return weight * During(windows)


class During(Schedule):
    """One in some epochs, zero in all others.

    Args:
        windows: ``(first, last)`` epochs counted from 0, ``last`` excluded and ``None`` for no end.

    >>> [During([(0, 2)])(Progress(epoch=epoch)) for epoch in range(4)]
    [1.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, windows: list[tuple[int, int | None]]) -> None:
        super().__init__()
        self.windows = list(windows)

    def forward(self, progress: Progress) -> float:
        """See the class."""
        epoch = progress.epoch
        return float(any(first <= epoch and (last is None or epoch < last) for first, last in self.windows))
