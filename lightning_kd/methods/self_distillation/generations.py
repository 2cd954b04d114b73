"""Train generation after generation, each learning from the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from lightning_kd.methods.self_distillation.born_again import BornAgain
from lightning_kd.methods.self_distillation.guided import GuidedSelfDistillation, Objective, optimal_label_weight

MakeStudent = Callable[[int], L.LightningModule]
"""From the number of the generation (from 1) to a student with fresh weights."""

Fit = Callable[[L.LightningModule, list[L.Callback]], object]
"""Trains a student with a Trainer of its own, to which the callbacks are given."""

Predict = Callable[[L.LightningModule], Tensor]
"""From a trained student to its probabilities on validation samples, ``(N, C)``."""


@dataclass(frozen=True)
class Generation:
    """A trained generation.

    Attributes:
        number: from 1.
        student: the trained student.
        alpha: weight of the labels in its training.
    """

    number: int
    student: L.LightningModule
    alpha: float


@dataclass(frozen=True)
class Validation:
    """Held-out samples on which the weight of the labels is chosen; take them from the training set, never from test.

    Attributes:
        target: class indices, ``(N,)``.
        predict: from a trained student to its probabilities for these samples, ``(N, C)``.
    """

    target: Tensor
    predict: Predict

    @classmethod
    def from_batches(cls, batches: Iterable[tuple[Tensor, Tensor]]) -> Validation:
        """From ``(inputs, labels)`` batches in a fixed order.

        Args:
            batches: for example a DataLoader without shuffling; read once for the labels and once for every student.
        """
        # late: the teacher belongs to the engine, which knows the methods
        from lightning_kd.engine.teacher import Teacher

        def predict(student: L.LightningModule) -> Tensor:
            modes = [(module, module.training) for module in student.modules()]
            device = next((parameter.device for parameter in student.parameters()), torch.device("cpu"))
            teacher = Teacher(student)
            try:
                logits = [teacher.view((inputs.to(device),), {}).logits for inputs, _ in batches]
            finally:
                for module, mode in modes:
                    module.training = mode
            return torch.cat(logits).double().softmax(-1).cpu()

        return cls(torch.cat([labels for _, labels in batches]), predict)


def self_distil(
    make_student: MakeStudent,
    fit: Fit,
    generations: int,
    *,
    alpha: float | Literal["auto"] = "auto",
    validation: Validation | None = None,
    objective: Objective = "cross_entropy",
    **distillation: Any,
) -> list[Generation]:
    """Guided self-distillation over several generations.

    The first generation learns from the labels. Every later one learns, from fresh weights, from the labels with weight
    ``alpha`` and from the previous generation with ``1 - alpha``. With ``alpha="auto"`` the weight is estimated for
    each generation: an extra student is trained on the previous generation alone, and the closed form of
    :func:`optimal_label_weight` compares it with the first generation on validation samples.

    Args:
        make_student: makes the student of a generation; seed it as you like.
        fit: trains a student: ``lambda student, callbacks: L.Trainer(callbacks=callbacks).fit(student, data)``.
        generations: how many, the first included.
        alpha: weight of the labels, or ``"auto"``.
        validation: for ``"auto"``: samples held out of the training set.
        objective: ``"cross_entropy"`` or ``"mse"``.
        **distillation: more arguments of :class:`~lightning_kd.Distillation` (``network``, ``target``, ``logits``).

    Returns:
        The generations in order.

    Raises:
        ValueError: if there is no generation, or ``alpha="auto"`` comes without validation samples.

    Reference: Borup and Andersen, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed
    by Self-Distillation", NeurIPS 2021, arXiv:2102.13088.
    """
    _check_generations(generations)
    if alpha == "auto" and generations > 1 and validation is None:
        raise ValueError(
            'alpha="auto" chooses the weight on held-out samples: pass validation=Validation.from_batches(loader) with '
            "a part of the training set, or give alpha a number"
        )

    def train(number: int, teacher: nn.Module | None, label_weight: float) -> L.LightningModule:
        method = GuidedSelfDistillation(label_weight, objective)
        return _train(make_student, fit, number, teacher, method, {"task_weight": 0.0, **distillation})

    found = [Generation(1, train(1, None, 1.0), 1.0)]
    by_labels = None if validation is None else validation.predict(found[0].student)
    for number in range(2, generations + 1):
        previous = found[-1].student
        if alpha != "auto":
            chosen = alpha
        else:
            assert validation is not None
            assert by_labels is not None
            distilled = validation.predict(train(number, previous, 0.0))
            chosen = optimal_label_weight(by_labels, distilled, validation.target)
        found.append(Generation(number, train(number, previous if chosen != 1 else None, chosen), chosen))
    return found


def train_born_again(
    make_student: MakeStudent,
    fit: Fit,
    generations: int,
    *,
    temperature: float = 1.0,
    **distillation: Any,
) -> list[Generation]:
    """Born-Again Networks over several generations.

    The first generation trains without distillation; every later one, from fresh weights, with its own loss and
    :class:`BornAgain` from the previous generation.

    Args:
        make_student: makes the student of a generation; seed it as you like.
        fit: trains a student: ``lambda student, callbacks: L.Trainer(callbacks=callbacks).fit(student, data)``.
        generations: how many, the first included.
        temperature: softmax temperature.
        **distillation: more arguments of :class:`~lightning_kd.Distillation` (``task_weight``, ``network`` ...).

    Returns:
        The generations in order.

    Raises:
        ValueError: if there is no generation.

    Reference: Furlanello et al., "Born-Again Neural Networks", ICML 2018, arXiv:1805.04770.
    """
    _check_generations(generations)
    first = make_student(1)
    fit(first, [])
    found = [Generation(1, first, 1.0)]
    for number in range(2, generations + 1):
        teacher = found[-1].student
        student = _train(make_student, fit, number, teacher, BornAgain(temperature), distillation)
        found.append(Generation(number, student, 1.0))
    return found


def _train(
    make_student: MakeStudent,
    fit: Fit,
    number: int,
    teacher: nn.Module | None,
    method: GuidedSelfDistillation | BornAgain,
    settings: dict[str, Any],
) -> L.LightningModule:
    # late: the doors import the methods
    from lightning_kd.distillation import Distillation

    student = make_student(number)
    if student is teacher:
        raise ValueError("make_student must make a new student with fresh weights, it returned the previous one")
    fit(student, [Distillation(teacher, method, **settings)])
    return student


def _check_generations(generations: int) -> None:
    if generations < 1:
        raise ValueError(f"generations counts the first one too and must be at least 1, got {generations}")
