"""Teacher-free distillation: a hand-designed teacher that is right with a fixed probability."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_temperature
from lightning_kd.methods.logits._classes import check_matrix
from lightning_kd.schedules import Scheduled, value_at

TfKDMode = Literal["code", "paper"]
"""Whether the student is tempered (``"paper"``) or not (``"code"``); see :func:`virtual_teacher_loss`."""


def virtual_teacher_loss(
    student_logits: Tensor,
    target: Tensor,
    correct_probability: float = 0.99,
    temperature: float = 20.0,
    mode: TfKDMode = "code",
) -> Tensor:
    r"""Distillation from a virtual teacher.

    .. math:: \mathrm{KL}\big(\mathrm{softmax}(p^d/T)\,\|\,p^s\big), \qquad
        p^d_y = a, \quad p^d_{c \ne y} = \frac{1 - a}{C - 1}

    The designed probabilities :math:`p^d` take the place of logits in the tempered softmax, as in the authors' code.

    Args:
        student_logits: logits, ``(B, C)`` with ``C >= 2``.
        target: class indices, ``(B,)``.
        correct_probability: probability ``a`` of the label, at least 0.9 in the paper.
        temperature: softmax temperature ``T``.
        mode: the paper tempers the student as well (``"paper"``); the authors' code, and so its results, does not
            (``"code"``). Neither has a ``T**2``.

    Returns:
        Scalar: sum over classes, mean over the batch, at least float32. The authors' code averages over the classes
        too and multiplies by a constant (100 on CIFAR-100), which comes to the same.

    Raises:
        ValueError: if the shapes do not fit, or the probability, the temperature or ``mode`` is invalid.

    Reference: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020,
    arXiv:1909.11723.
    """
    check_matrix(student_logits)
    check_labels(student_logits, target)
    _check(correct_probability, temperature, mode)
    student = at_least_float32(student_logits)
    num_classes = student.shape[-1]
    if num_classes < 2:
        raise ValueError(f"a virtual teacher needs at least 2 classes, got {num_classes}")
    designed = torch.full_like(student, (1 - correct_probability) / (num_classes - 1))
    designed = designed.scatter(-1, target.unsqueeze(-1), correct_probability)
    teacher = F.log_softmax(designed / temperature, dim=-1)
    log_student = F.log_softmax(student / temperature if mode == "paper" else student, dim=-1)
    return F.kl_div(log_student, teacher, reduction="none", log_target=True).sum(-1).mean()


def _check(correct_probability: float, temperature: Scheduled, mode: str) -> None:
    check_temperature(temperature)
    if not 0 < correct_probability < 1:
        raise ValueError(f"correct_probability must be in (0, 1), got {correct_probability}")
    if mode not in get_args(TfKDMode):
        raise ValueError(f"mode must be one of {get_args(TfKDMode)}, got {mode!r}")


class TfKD(DistillationMethod):
    """:func:`virtual_teacher_loss`: regularisation without a teacher (the paper's Tf-KD-reg).

    The paper's other variant, Tf-KD-self, is :class:`KD` with a trained copy of the student as the teacher.

    Args:
        correct_probability: probability that the virtual teacher gives to the label.
        temperature: softmax temperature of the virtual teacher.
        mode: ``"code"`` or ``"paper"``.
        weight: factor in the total loss; the usual CIFAR-100 recipe is 0.1 with ``task_weight=0.9``.
    """

    citation = Citation(
        "Revisiting Knowledge Distillation via Label Smoothing Regularization",
        "Yuan et al.",
        "CVPR",
        2020,
        "1909.11723",
    )
    aliases = ("TeacherFreeKD", "VirtualTeacher", "Tf-KD")
    needs_teacher = False
    needs_target = True

    def __init__(
        self,
        correct_probability: float = 0.99,
        temperature: Scheduled = 20.0,
        mode: TfKDMode = "code",
        weight: Weight = 0.1,
    ) -> None:
        super().__init__(weight)
        _check(correct_probability, temperature, mode)
        self.correct_probability, self.temperature = correct_probability, temperature
        self.mode: TfKDMode = mode

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`virtual_teacher_loss`."""
        return virtual_teacher_loss(
            exchange.student.logits,
            exchange.labels,
            self.correct_probability,
            value_at(self.temperature, exchange.progress),
            self.mode,
        )
