"""Schedules: small objects from the progress of the training to a number, for any weight or temperature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lightning_kd.engine.exchange import Progress

Scheduled = float | Callable[[Progress], float]
"""A constant, or a schedule."""


def value_at(value: Scheduled, progress: Progress) -> float:
    """Evaluate a constant or a schedule.

    >>> value_at(4.0, Progress()), value_at(WarmUp(20), Progress(epoch=9))
    (4.0, 0.5)
    """
    return value(progress) if callable(value) else value


class Schedule(nn.Module):
    """A number that changes in the course of the training.

    Schedules multiply: ``0.9 * WarmUp(20)`` rises to 0.9, ``WarmUp(20) * Cosine(1, 0)`` rises and falls.

    They are modules so that one handed to a method is saved and restored with it; they have no parameters.
    """

    def forward(self, progress: Progress) -> float:
        """The value at this point of the training."""
        raise NotImplementedError(f"{type(self).__name__} must implement forward(progress) and return a number")

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        given = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value}" for name, value in given.items())

    def __mul__(self, other: float | Schedule) -> Product:
        if isinstance(other, Schedule):
            return Product([self, other])
        if isinstance(other, int | float):
            return Product([self], other)
        return NotImplemented

    __rmul__ = __mul__


class Product(Schedule):
    """The product of schedules and a constant; what ``*`` makes.

    Args:
        factors: schedules.
        scale: constant factor.

    >>> (0.5 * WarmUp(4) * WarmUp(2))(Progress(epoch=0))
    0.0625
    """

    def __init__(self, factors: list[Schedule], scale: float = 1.0) -> None:
        super().__init__()
        self.factors = nn.ModuleList(factors)
        self.scale = scale

    def forward(self, progress: Progress) -> float:
        """The product of all factors."""
        product = self.scale
        for factor in self.factors:
            product *= factor(progress)
        return product


class WarmUp(Schedule):
    """Rise linearly to 1, epoch by epoch: ``min((epoch + 1) / epochs, 1)`` with epochs counted from 0.

    DKD and ReviewKD warm their losses up like this, over 20 epochs on CIFAR-100.

    Args:
        epochs: epochs until the value is 1.

    >>> [WarmUp(4)(Progress(epoch=epoch)) for epoch in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = _positive(epochs)

    def forward(self, progress: Progress) -> float:
        """See the class."""
        return min((progress.epoch + 1) / self.epochs, 1.0)


class StepWarmUp(Schedule):
    """Rise linearly to 1, step by step: ``min(step / steps, 1)`` with optimizer steps counted from 0.

    FRS warms its losses up like this, over 500 steps on COCO.

    Args:
        steps: optimizer steps until the value is 1.

    >>> [StepWarmUp(4)(Progress(step=step)) for step in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.steps = steps

    def forward(self, progress: Progress) -> float:
        """See the class."""
        return min(progress.step / self.steps, 1.0)


class Linear(Schedule):
    """Go from ``start`` to ``end`` in a straight line.

    Args:
        start: first value.
        end: last value.
        epochs: epochs until ``end``, in steps of whole epochs; by default the whole training, step by step (its length
            must then be known: ``start`` stays where it is not).

    >>> Linear(1.0, 0.0)(Progress(fraction=0.25))
    0.75
    """

    def __init__(self, start: float, end: float, epochs: int | None = None) -> None:
        super().__init__()
        self.start, self.end = start, end
        self.epochs = None if epochs is None else _positive(epochs)

    def forward(self, progress: Progress) -> float:
        """See the class."""
        return self.start + (self.end - self.start) * _share(progress, self.epochs)


class Cosine(Linear):
    """Go from ``start`` to ``end`` along half a cosine: flat at both ends.

    Args:
        start: first value.
        end: last value.
        epochs: as in :class:`Linear`.

    >>> round(Cosine(1.0, 0.0)(Progress(fraction=0.25)), 4)
    0.8536
    """

    def forward(self, progress: Progress) -> float:
        """See the class."""
        return self.start + (self.end - self.start) * _ease(_share(progress, self.epochs))


class Curriculum(Schedule):
    """Curriculum factor of CTKD: half a cosine from 0 to 1, with epochs counted from 1 as in the authors' code.

    CTKD multiplies the reversed gradient of its temperature by it; 10 epochs on CIFAR-100, 5 on ImageNet.

    Args:
        epochs: epochs until the value is 1.

    Reference: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, arXiv:2211.16231.

    >>> [round(Curriculum(2)(Progress(epoch=epoch)), 4) for epoch in range(3)]
    [0.5, 1.0, 1.0]
    """

    def __init__(self, epochs: int = 10) -> None:
        super().__init__()
        self.epochs = _positive(epochs)

    def forward(self, progress: Progress) -> float:
        """See the class."""
        return _ease(min((progress.epoch + 1) / self.epochs, 1.0))


class TAIDSchedule(Schedule):
    r"""Interpolation coefficient of TAID: a linear ramp that hurries when the loss falls.

    With the relative fall :math:`\delta_n = (L_{n-1} - L_n) / L_{n-1}` and its moving average
    :math:`m_n = \beta m_{n-1} + (1 - \beta)\,\delta_n`,

    .. math:: t_{n+1} = \min\big(t_{end},\, \max(t_{lin},\, t_n + \alpha\,\sigma(m_n)\,(1 - t_n))\big)

    so ``t`` never falls and is never behind the ramp from ``start`` to ``end`` over the whole training. Losses hardly
    change from one step to the next, so :math:`\sigma(m) \approx 1/2`: the adaptive part leads the ramp only in long
    trainings, with many more steps than ``2 (end - start) / alpha``. Log ``t`` beside the ramp to see whether it does.

    Tell it the loss once per optimizer step, with the mean over all ranks: ranks that are told the same agree on ``t``.
    The ramp is that of the present step, where the authors' code takes the step before.

    Args:
        start: first value; the authors use 0.4 for students of about their teacher's family size, else 0.2.
        end: last value.
        alpha: step size.
        beta: momentum of the relative fall.
        adaptive: ``False`` leaves the plain ramp.

    Reference: Shing et al., "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in
    Language Models", ICLR 2025, arXiv:2501.16937.
    """

    def __init__(
        self, start: float = 0.4, end: float = 1.0, alpha: float = 5e-4, beta: float = 0.99, adaptive: bool = True
    ) -> None:
        super().__init__()
        if not 0 <= start <= end <= 1 or not alpha > 0 or not 0 <= beta < 1:
            raise ValueError(
                "expected 0 <= start <= end <= 1, alpha > 0 and beta in [0, 1), got "
                f"start={start}, end={end}, alpha={alpha}, beta={beta}"
            )
        self.start, self.end, self.alpha, self.beta = start, end, alpha, beta
        self.adaptive = adaptive
        self._t = start
        self._momentum = 0.0
        self._previous: float | None = None
        self._waiting: Tensor | float | None = None

    def observe(self, loss: Tensor | float) -> None:
        """Learn the loss of the step just taken; call it once per optimizer step.

        Args:
            loss: scalar, reduced over all ranks. It is read at the next call of the schedule, when the device has
                computed it anyway.
        """
        self._settle()
        self._waiting = loss.detach() if isinstance(loss, Tensor) else loss

    def forward(self, progress: Progress) -> float:
        """The coefficient ``t`` of this step."""
        self._settle()
        ramp = self.start + (self.end - self.start) * progress.fraction
        self._t = min(self.end, max(self._t, ramp))
        return self._t

    def _settle(self) -> None:
        if self._waiting is None:
            return
        loss, self._waiting = float(self._waiting), None
        if not math.isfinite(loss):
            # a step that mixed precision skips must not poison the momentum
            return
        if self.adaptive and self._previous is not None:
            fall = (self._previous - loss) / (self._previous + 1e-15)
            self._momentum = self.beta * self._momentum + (1 - self.beta) * fall
            self._t = min(self.end, self._t + self.alpha * _sigmoid(self._momentum) * (1 - self._t))
        self._previous = loss

    def get_extra_state(self) -> dict[str, float | None]:
        """What a checkpoint has to hold."""
        self._settle()
        return {"t": self._t, "momentum": self._momentum, "previous": self._previous}

    def set_extra_state(self, state: Any) -> None:
        """Continue from a checkpoint."""
        self._t, self._momentum, self._previous = state["t"], state["momentum"], state["previous"]
        self._waiting = None


def _share(progress: Progress, epochs: int | None) -> float:
    return progress.fraction if epochs is None else min(progress.epoch / epochs, 1.0)


def _ease(share: float) -> float:
    return (1 - math.cos(math.pi * share)) / 2


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def _positive(epochs: int) -> int:
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    return epochs
