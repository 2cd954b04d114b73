"""Multi-Level Logit Distillation: match instances, the similarity of samples and the similarity of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.engine.target import Target, find_target
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature, full_precision
from lightning_kd.methods.logits._classes import check_matrix


def class_correlation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Squared difference of the class correlations, the class-level term of MLKD.

    .. math:: \tfrac1C\,\big\|P_t^\top P_t - P_s^\top P_s\big\|_F^2, \qquad P = \mathrm{softmax}(z/T)

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        temperature: softmax temperature ``T``; the loss carries no ``T**2``.

    Returns:
        Scalar, at least float32. The correlations are sums over the batch, so the value grows with its size.

    Raises:
        ValueError: if the shapes differ or the temperature is not positive.

    Reference: Jin et al., "Multi-Level Logit Distillation", CVPR 2023.
    """
    student, teacher = _probabilities(student_logits, teacher_logits, temperature)
    return _by_class(student, teacher).mean()


def batch_correlation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Squared difference of the sample correlations, the batch-level term of MLKD.

    .. math:: \tfrac1B\,\big\|P_t P_t^\top - P_s P_s^\top\big\|_F^2, \qquad P = \mathrm{softmax}(z/T)

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        temperature: softmax temperature ``T``; the loss carries no ``T**2``.

    Returns:
        Scalar, at least float32.

    Raises:
        ValueError: if the shapes differ or the temperature is not positive.

    Reference: Jin et al., "Multi-Level Logit Distillation", CVPR 2023.
    """
    student, teacher = _probabilities(student_logits, teacher_logits, temperature)
    return _by_sample(student, teacher).mean()


def mlkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    masked: bool = True,
) -> Tensor:
    r"""Sum of the instance, batch and class terms over several temperatures.

    Masks keep the samples on which the teacher is at most as confident as the batch's median (instance and batch
    terms), and the classes whose summed teacher probability is at most the median (class term).

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        temperatures: temperatures of the "prediction augmentation"; the instance term carries ``T**2``.
        masked: apply the masks, one factor a sample (a class). The authors' code multiplies the already averaged loss
            with the mask and averages again, which only halves every term; this is what it sets out to do.

    Returns:
        Scalar: mean over all samples (classes), masked ones counting as zero; at least float32.

    Raises:
        ValueError: if the shapes differ, or there is no temperature or one that is not positive.

    Reference: Jin et al., "Multi-Level Logit Distillation", CVPR 2023.
    """
    _check_temperatures(temperatures)
    confident = F.softmax(at_least_float32(teacher_logits.detach()), dim=-1)
    samples, classes = (_lower_half(confident.amax(-1)), _lower_half(confident.sum(0))) if masked else (1.0, 1.0)
    loss = student_logits.new_zeros((), dtype=confident.dtype)
    for temperature in temperatures:
        student, teacher = _probabilities(student_logits, teacher_logits, temperature)
        instance = _instance(student_logits, teacher_logits, temperature)
        loss = loss + (instance * samples).mean()
        loss = loss + (_by_sample(student, teacher) * samples).mean()
        loss = loss + (_by_class(student, teacher) * classes).mean()
    return loss


def _probabilities(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    check_matrix(student_logits)
    check_same_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    student = F.softmax(at_least_float32(student_logits) / temperature, dim=-1)
    return student, F.softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)


def _instance(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL of every sample with its ``T**2``, ``(B,)``."""
    student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1) * temperature**2


def _by_sample(student: Tensor, teacher: Tensor) -> Tensor:
    with full_precision(student):
        return (teacher @ teacher.T - student @ student.T).square().sum(-1)


def _by_class(student: Tensor, teacher: Tensor) -> Tensor:
    with full_precision(student):
        return (teacher.T @ teacher - student.T @ student).square().sum(-1)


def _lower_half(values: Tensor) -> Tensor:
    """One where a value is at most the median (interpolated, as percentile 50), zero elsewhere."""
    return (values <= torch.quantile(values, 0.5)).to(values.dtype)


def _check_temperatures(temperatures: Sequence[float]) -> None:
    if not temperatures:
        raise ValueError("temperatures must hold at least one temperature, got none")
    for temperature in temperatures:
        check_temperature(temperature)


class MLKD(DistillationMethod):
    """:func:`mlkd_loss` between student and teacher logits.

    The correlations are those of each rank's own batch.

    The paper trains on two views of every image: a weak one, which is the batch's own input, and a strong one
    (RandAugment, Cutout), for which the unmasked instance term is added. Its published rows also have more epochs and
    the cross-entropy of the strong view; add the latter in your ``training_step`` to follow it.

    Args:
        temperatures: temperatures of the prediction augmentation.
        masked: apply the confidence masks.
        strong_view: where the strong view is in the batch (index, key or callable); ``None`` does without. The authors'
            code feeds it at the temperatures 3, 4 and 5 only and the weak view again at 2 and 6, an apparent slip that
            is not followed.
        weight: factor in the total loss; the paper's recipe is 0.9 with ``task_weight=0.1``.
    """

    citation = Citation("Multi-Level Logit Distillation", "Jin et al.", "CVPR", 2023)
    aliases = ("MLLD", "MultiLevelLogitDistillation")

    def __init__(
        self,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        masked: bool = True,
        strong_view: Target | None = None,
        weight: Weight = 0.9,
    ) -> None:
        super().__init__(weight)
        _check_temperatures(temperatures)
        self.temperatures, self.masked, self.strong_view = tuple(temperatures), masked, strong_view

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`mlkd_loss`."""
        loss = mlkd_loss(exchange.student.logits, exchange.teacher.logits, self.temperatures, self.masked)
        if self.strong_view is None:
            return loss
        if exchange.run_student is None or exchange.run_teacher is None:
            raise ValueError("strong_view needs an exchange that can run both networks (run_student and run_teacher)")
        images = find_target(exchange.batch, self.strong_view)
        student, teacher = exchange.run_student(images), exchange.run_teacher(images)
        for temperature in self.temperatures:
            loss = loss + _instance(student.logits, teacher.logits, temperature).mean()
        return loss
