"""Logit standardisation: compare the shape of the logits, not their mean and scale."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits
from lightning_kd.methods.logits.kd import KD, kd_loss

_EPS = 1e-7


def standardize(logits: Tensor) -> Tensor:
    r"""Zero mean and unit (unbiased) standard deviation over the classes: :math:`(z - \bar z)/(\sigma + 10^{-7})`.

    Args:
        logits: ``(..., C)`` with ``C >= 2``.

    Returns:
        The same shape, at least float32. Constant logits become zeros, with a finite gradient.

    Raises:
        ValueError: if there is only one class.
    """
    if logits.shape[-1] < 2:
        raise ValueError(f"standardising logits needs at least 2 classes, got {logits.shape[-1]}")
    centred = at_least_float32(logits)
    centred = centred - centred.mean(-1, keepdim=True)
    # The norm has a zero subgradient at zero, where the gradient of std() is not a number.
    deviation = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / math.sqrt(logits.shape[-1] - 1)
    standardized: Tensor = centred / (deviation + _EPS)
    return standardized


def logit_standardized_kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """The loss of KD on standardised logits.

    Args:
        student_logits: student logits, ``(..., C)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        temperature: base temperature, applied after the standardisation; the loss carries ``T**2``.

    Returns:
        Scalar: sum over classes, mean over the batch, at least float32.

    Raises:
        ValueError: if the shapes differ or the temperature is not positive.

    Reference: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv:2403.01427.
    """
    check_same_logits(student_logits, teacher_logits)
    return kd_loss(standardize(student_logits), standardize(teacher_logits), temperature)


class LogitStandardization(DistillationMethod):
    """Standardises both networks' logits before another logit method sees them.

    Without an argument it is :func:`logit_standardized_kd_loss` (``KD(temperature=2)``). The authors multiply a
    method's weights by 9 with the base temperature 2: ``LogitStandardization(DKD(temperature=2.0))`` has both.

    Note that the authors' fork of mdistiller changes the *defaults* of plain KD to ``T=2, weight=9``, so that results
    of its "KD" without standardisation are not the usual KD. Standardisation harms PLD.

    Args:
        method: the method to feed with standardised logits. Its own weight multiplies into the total.
        weight: factor in the total loss; the paper uses 9, with ``task_weight=0.1`` on CIFAR-100 and 1 on ImageNet.
    """

    citation = Citation("Logit Standardization in Knowledge Distillation", "Sun et al.", "CVPR", 2024, "2403.01427")
    aliases = ("LSKD", "LogitStdKDLoss", "LogitStand")

    def __init__(self, method: DistillationMethod | None = None, weight: Weight = 9.0) -> None:
        inner = method if method is not None else KD(temperature=2.0)
        super().__init__(weight, inner.layers)
        self.method = inner
        # What a class declares, a wrapper takes from what it wraps.
        for declaration in (
            "needs_teacher",
            "needs_target",
            "needs_index",
            "trains_teacher",
            "uses_all_teachers",
            "has_setup_pass",
        ):
            self.__dict__[declaration] = getattr(inner, declaration)

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The choice of the wrapped method."""
        return self.method.select_stages(pairs)

    def build(self, context: BuildContext) -> None:
        """Build the wrapped method."""
        self.method.pairs = self.pairs
        self.method.build(
            BuildContext(_standardized(context.exchange), context.student, context.teachers, context.num_samples)
        )

    def observe(self, exchange: Exchange) -> None:
        """Show the wrapped method a batch of the setup pass; the student's side is empty there."""
        self.method.observe(exchange)

    def finish_setup(self) -> None:
        """Finish the setup of the wrapped method."""
        self.method.finish_setup()

    def forward(self, exchange: Exchange) -> Tensor:
        """The wrapped method's weighted loss on standardised logits."""
        loss: Tensor = self.method(_standardized(exchange))
        return loss * self.method.weight_at(exchange.progress)


def _standardized(exchange: Exchange) -> Exchange:
    run_student, run_teacher = exchange.run_student, exchange.run_teacher
    return replace(
        exchange,
        student=_view(exchange.student),
        teachers=[_view(teacher) for teacher in exchange.teachers],
        run_student=run_student and (lambda *args, **kwargs: _view(run_student(*args, **kwargs))),
        run_teacher=run_teacher and (lambda *args, **kwargs: _view(run_teacher(*args, **kwargs))),
    )


def _view(view: View) -> View:
    return View(standardize(view.logits), view.features)
