"""BD-KD: forward and reverse divergence balanced per sample by who is less certain, student or teacher."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits, check_temperature
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

EntropyOn = Literal["untempered", "tempered"]
Weighting = Literal["hard", "none", "forward", "reverse"]
TeacherMode = Literal["online", "frozen"]


def balanced_divergence_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    delta: float = 2.0,
    temperature: float = 1.0,
    entropy_on: EntropyOn = "untempered",
    weighting: Weighting = "hard",
) -> Tensor:
    r"""The student's term of BD-KD.

    .. math:: T^2\,[w_F\,\mathrm{KL}(p^t \| p^s) + w_R\,\mathrm{KL}(p^s \| p^t)]

    Per sample :math:`w_F=\delta` where the teacher's entropy is the larger (the student is too peaked: spread its
    mass), :math:`w_R=\delta` where the student's is (it is too flat: sharpen it); any other weight is 1, both on a tie.

    Args:
        student_logits: student logits, ``(B, C)``.
        teacher_logits: teacher logits, ``(B, C)``; no gradient flows into them.
        delta: weight of the preferred direction.
        temperature: softmax temperature ``T``; the loss carries ``T**2``.
        entropy_on: whether the entropies are those of the untempered or of the tempered softmax.
        weighting: ``"hard"`` for the rule above; ablations: ``"none"`` for both directions with weight 1, ``"forward"``
            and ``"reverse"`` for one of them alone with weight 1.

    Returns:
        Scalar: sum over classes, mean over the batch, at least float32.

    Raises:
        ValueError: if the shapes differ, the temperature is not positive, ``delta`` is negative or an option unknown.

    Reference: Amara et al., "BD-KD: Balancing the Divergences for Online Knowledge Distillation", 2022,
    arXiv:2212.12965.

    >>> logits = torch.randn(8, 10)
    >>> balanced_divergence_loss(logits, logits).item()
    0.0
    """
    check_same_logits(student_logits, teacher_logits)
    _check_options(delta, temperature, entropy_on, weighting)
    student_logits, teacher_logits = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    student = F.log_softmax(student_logits / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    student_probability, teacher_probability, log_ratio = student.exp(), teacher.exp(), teacher - student
    forward = (teacher_probability * log_ratio).sum(-1)
    reverse = -(student_probability * log_ratio).sum(-1)
    if weighting == "hard":
        if entropy_on == "untempered" and temperature != 1:
            gap = _entropy(teacher_logits.log_softmax(-1)) - _entropy(student_logits.detach().log_softmax(-1))
        else:
            student_entropy = _entropy(student.detach(), student_probability.detach())
            gap = _entropy(teacher, teacher_probability) - student_entropy
        forward = torch.where(gap > 0, delta, 1.0) * forward
        reverse = torch.where(gap < 0, delta, 1.0) * reverse
    per_sample = {"forward": forward, "reverse": reverse}.get(weighting, forward + reverse)
    return per_sample.mean() * temperature**2


def _entropy(log_probability: Tensor, probability: Tensor | None = None) -> Tensor:
    return -((log_probability.exp() if probability is None else probability) * log_probability).sum(-1)


def _check_options(delta: float, temperature: Scheduled, entropy_on: str, weighting: str) -> None:
    check_temperature(temperature)
    check_factor("delta", delta)
    _check_choice("entropy_on", entropy_on, get_args(EntropyOn))
    _check_choice("weighting", weighting, get_args(Weighting))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


class BDKD(OnlineMethod):
    r"""Balanced divergences: :func:`balanced_divergence_loss` for the student, a reverse divergence for the teacher.

    The teacher trains along on its cross-entropy and :math:`\alpha_T\,T^2\,\mathrm{KL}(p^s \| p^t)`, which keeps it
    within the student's reach. With several networks a student has the mean of its terms over the teachers, a teacher
    the mean of its terms over the students.

    The rule and ``delta`` follow the paper. The published text at hand gives no temperature and no factors: the
    defaults of ``temperature``, ``alpha`` and ``alpha_teacher``, and the means over several networks, are ours.

    Args:
        delta: weight of the preferred direction; 2, and 3 is worth trying.
        temperature: softmax temperature.
        alpha: factor of the student's term.
        alpha_teacher: factor of the teacher's reverse divergence.
        entropy_on: ``"untempered"`` or ``"tempered"`` entropies.
        weighting: ``"hard"``, or the ablations ``"none"``, ``"forward"``, ``"reverse"``.
        teacher_mode: ``"online"``: the teacher trains along; ``"frozen"``: an ordinary teacher that was trained before.
        fellow_students: how many of the peers, counted from the last, are students rather than teachers.
        weight: factor of the whole term, the peers' own losses included.
        peer_lr: learning rate of the peers; by default the student's.
        peer_weight_decay: weight decay of the peers; by default the student's.

    Raises:
        ValueError: for an unknown option, a temperature that is not positive or a negative factor.
    """

    citation = Citation(
        "BD-KD: Balancing the Divergences for Online Knowledge Distillation",
        "Amara et al.",
        "arXiv",
        2022,
        "2212.12965",
    )
    aliases = ("BalancedDivergence", "BD-KD")

    def __init__(
        self,
        delta: float = 2.0,
        temperature: Scheduled = 1.0,
        alpha: float = 1.0,
        alpha_teacher: float = 1.0,
        entropy_on: EntropyOn = "untempered",
        weighting: Weighting = "hard",
        teacher_mode: TeacherMode = "online",
        fellow_students: int = 0,
        weight: Weight = 1.0,
        peer_lr: float | None = None,
        peer_weight_decay: float | None = None,
    ) -> None:
        super().__init__(weight, peer_lr, peer_weight_decay)
        _check_options(delta, temperature, entropy_on, weighting)
        _check_choice("teacher_mode", teacher_mode, get_args(TeacherMode))
        check_factor("alpha", alpha)
        check_factor("alpha_teacher", alpha_teacher)
        check_fellow_students(fellow_students)
        if teacher_mode == "frozen" and fellow_students:
            raise ValueError(
                f'fellow_students={fellow_students} train along, which teacher_mode="frozen" rules out; use "online"'
            )
        self.delta, self.temperature = delta, temperature
        self.alpha, self.alpha_teacher = alpha, alpha_teacher
        self.entropy_on, self.weighting = entropy_on, weighting
        self.teacher_mode, self.fellow_students = teacher_mode, fellow_students
        online = teacher_mode == "online"
        # what the class declares holds for the default mode; an instance may differ
        self.trains_teacher = self.needs_target = online

    def forward(self, exchange: Exchange) -> Tensor:
        """The student's balanced divergence and, online, every peer's whole loss."""
        students, teachers = split_roles(all_logits(exchange), self.fellow_students)
        temperature = value_at(self.temperature, exchange.progress)
        total = self.alpha * self._balanced(students[0], teachers, temperature)
        if self.teacher_mode == "frozen":
            return total
        for student in students[1:]:
            own = cross_entropy(student, exchange.labels)
            total = total + own + self.alpha * self._balanced(student, teachers, temperature)
        for teacher in teachers:
            own = cross_entropy(teacher, exchange.labels)
            total = total + own + self.alpha_teacher * mutual_learning_loss(teacher, students, temperature)
        return total

    def _balanced(self, student: Tensor, teachers: list[Tensor], temperature: float) -> Tensor:
        terms = [
            balanced_divergence_loss(student, teacher, self.delta, temperature, self.entropy_on, self.weighting)
            for teacher in teachers
        ]
        return torch.stack(terms).mean()
