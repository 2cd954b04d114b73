"""SwitOKD: the teacher pauses while the gap to the student is too wide."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits, check_temperature
from lightning_kd.methods.logits.kd import kd_loss
from lightning_kd.methods.online.base import (
    OnlineMethod,
    all_logits,
    check_factor,
    check_fellow_students,
    cross_entropy,
    split_roles,
)
from lightning_kd.methods.online.dml import mutual_learning_loss
from lightning_kd.schedules import Scheduled, value_at


def gap_statistics(student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
    r"""Sums over the batch from which the mode is decided, and the number of samples.

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``.
        target: class indices, ``(B,)``.

    Returns:
        ``(4,)``: the sums of the distances :math:`\|p^s-p^t\|_1`, :math:`\|p^s-m\|_1` and :math:`\|p^t-m\|_1`, where
        :math:`m` is the one-hot label, and the batch size; without gradient. Sums of several ranks may be added.

    Raises:
        ValueError: if the shapes differ or the labels do not fit.
    """
    check_same_logits(student_logits, teacher_logits)
    check_labels(student_logits, target)
    student = at_least_float32(student_logits.detach()).softmax(-1)
    teacher = at_least_float32(teacher_logits.detach()).softmax(-1)
    label = F.one_hot(target, student.shape[-1]).to(student.dtype)
    distances = torch.stack([student - teacher, student - label, teacher - label]).abs().sum((-2, -1))
    return torch.cat([distances, distances.new_full((1,), student.shape[0])])


def expert_mode(statistics: Tensor) -> Tensor:
    r"""Whether the teacher pauses.

    With the batch means :math:`G` (student to teacher), :math:`a` (student to label) and :math:`b` (teacher to label)
    the threshold is :math:`D = a - e^{-b/(a+b)}\,b`; the teacher pauses if :math:`G > D` and :math:`b < a`.

    Args:
        statistics: what :func:`gap_statistics` gave, ``(..., 4)``.

    Returns:
        Boolean tensor of shape ``(...)``.

    Reference: Qian et al., "Switchable Online Knowledge Distillation", ECCV 2022, arXiv:2209.04996.

    >>> bool(expert_mode(torch.tensor([1.2, 1.5, 0.6, 1.0])))
    True
    """
    gap, student, teacher = (statistics[..., :3] / statistics[..., 3:]).unbind(-1)
    share = teacher / (student + teacher).clamp_min(torch.finfo(statistics.dtype).tiny)
    threshold = student - torch.exp(-share) * teacher
    return (gap > threshold) & (teacher < student)


class SwitOKD(OnlineMethod):
    """Switchable online distillation: per mini-batch a teacher either learns or pauses; see :func:`expert_mode`.

    *Learning mode*: student and teacher learn from the labels and from each other, as in :class:`DML`. *Expert mode*:
    the teacher's loss is left out, so that its parameters get no gradient at all and do not move, not even by momentum
    or weight decay; the student learns on. The statistics of the teacher's BatchNorm layers follow every batch.

    All ranks decide alike, from the means over all their samples. Under DDP a pausing teacher leaves parameters unused:
    use ``DDPStrategy(find_unused_parameters=True)``.

    Several networks: a teacher decides for each student by itself and pauses when it is in expert mode with all of them
    (otherwise it learns from those it is in learning mode with); a student learns from the mean over the teachers and,
    as in DML, from the mean over its fellow students. ``teacher=[t1, t2]`` gives 2T1S,
    ``teacher=[t, s2], fellow_students=1`` 1T2S. How these terms are weighed is ours.

    The authors' CIFAR-100 recipe trains the teacher with ten times the student's learning rate (0.1 and 0.01): see
    ``peer_lr``.

    Args:
        temperature: softmax temperature of the divergences; the mode is decided without one.
        alpha: factor of the divergences, against the cross-entropy of each network.
        fellow_students: how many of the peers, counted from the last, are students rather than teachers.
        weight: factor of the whole term, the peers' own losses included.
        peer_lr: learning rate of the peers; by default the student's.
        peer_weight_decay: weight decay of the peers; by default the student's.

    Raises:
        ValueError: if the temperature is not positive or a factor is negative.
    """

    citation = Citation("Switchable Online Knowledge Distillation", "Qian et al.", "ECCV", 2022, "2209.04996")
    aliases = ("SwitchableOnlineKD",)

    def __init__(
        self,
        temperature: Scheduled = 1.0,
        alpha: float = 1.0,
        fellow_students: int = 0,
        weight: Weight = 1.0,
        peer_lr: float | None = None,
        peer_weight_decay: float | None = None,
    ) -> None:
        super().__init__(weight, peer_lr, peer_weight_decay)
        check_temperature(temperature)
        check_factor("alpha", alpha)
        check_fellow_students(fellow_students)
        self.temperature, self.alpha, self.fellow_students = temperature, alpha, fellow_students

    def forward(self, exchange: Exchange) -> Tensor:
        """The student's divergences and the whole losses of the peers that learn from this batch."""
        students, teachers = split_roles(all_logits(exchange), self.fellow_students)
        labels, temperature = exchange.labels, value_at(self.temperature, exchange.progress)
        total = self.alpha * _student_term(0, students, teachers, temperature)
        for position, student in enumerate(students[1:], start=1):
            own = cross_entropy(student, labels)
            total = total + own + self.alpha * _student_term(position, students, teachers, temperature)
        for teacher, pauses in zip(teachers, _decide(students, teachers, labels), strict=True):
            learns_from = [student for student, expert in zip(students, pauses, strict=True) if not expert]
            if learns_from:
                own = cross_entropy(teacher, labels)
                total = total + own + self.alpha * mutual_learning_loss(teacher, learns_from, temperature)
        return total


def _student_term(position: int, students: list[Tensor], teachers: list[Tensor], temperature: float) -> Tensor:
    student, fellows = students[position], students[:position] + students[position + 1 :]
    term = torch.stack([kd_loss(student, teacher, temperature) for teacher in teachers]).mean()
    return term + mutual_learning_loss(student, fellows, temperature) if fellows else term


def _decide(students: list[Tensor], teachers: list[Tensor], labels: Tensor) -> list[list[bool]]:
    """For every teacher, whether it is in expert mode with each of the students; the same on all ranks."""
    statistics = torch.stack(
        [torch.stack([gap_statistics(student, teacher, labels) for student in students]) for teacher in teachers]
    )
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(statistics)
    decisions: list[list[bool]] = expert_mode(statistics).tolist()
    return decisions
