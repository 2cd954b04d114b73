"""Top-k distillation: the teacher's likeliest classes one by one, and all others as one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits


def topk_tail_kl_loss(
    student_logits: Tensor, indices: Tensor, log_probabilities: Tensor, tail_log_mass: Tensor
) -> Tensor:
    r"""KL over the teacher's likeliest classes and one class for the rest, at temperature 1.

    .. math:: \sum_{i \in K} p^t_i \log\frac{p^t_i}{p^s_i}
        + \Big(1 - \sum_{i \in K} p^t_i\Big) \log\frac{1 - \sum_{i \in K} p^t_i}{1 - \sum_{i \in K} p^s_i}

    The probabilities are those among all classes, not among the top ones. Renormalised top probabilities would ask the
    student to leave nothing to the other classes, and without the second term nothing would hold their mass. With
    ``k = C`` it is :func:`~lightning_kd.functional.kd_loss` at ``temperature=1``, bit for bit if the indices ascend.

    Args:
        student_logits: student logits, ``(..., C)``.
        indices: the teacher's likeliest classes, ``(..., k)``.
        log_probabilities: the teacher's log-probabilities of them, ``(..., k)``.
        tail_log_mass: log of the teacher's mass of all other classes, ``(...)``; minus infinity for none.

    Returns:
        Scalar: sum over classes, mean over all else, at least float32.

    Raises:
        ValueError: if the shapes do not fit.

    Reference: "LFM2 Technical Report", Liquid AI, 2025, arXiv:2511.23404, whose loss this is at temperature 1.

    >>> student = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    >>> teacher = student.log_softmax(-1)
    >>> top, tail = torch.tensor([[0, 1]]), teacher[:, 2:].logsumexp(-1)
    >>> round(topk_tail_kl_loss(student, top, teacher[:, :2], tail).item(), 6)
    0.0
    """
    return _per_sample(student_logits, indices, log_probabilities, tail_log_mass).mean()


def _per_sample(student_logits: Tensor, indices: Tensor, log_probabilities: Tensor, tail_log_mass: Tensor) -> Tensor:
    _check(student_logits, indices, log_probabilities, tail_log_mass)
    student = F.log_softmax(at_least_float32(student_logits), dim=-1)
    teacher, tail = at_least_float32(log_probabilities.detach()), at_least_float32(tail_log_mass.detach())
    inside = F.kl_div(student.gather(-1, indices), teacher, reduction="none", log_target=True).sum(-1)
    if indices.shape[-1] == student_logits.shape[-1]:
        return inside
    others = student.scatter(-1, indices, -torch.inf).logsumexp(-1)
    # nothing times minus infinity is nothing
    some = tail > -torch.inf
    return inside + torch.where(some, tail.exp() * (tail.where(some, tail.new_zeros(())) - others), 0.0)


def _check(student_logits: Tensor, indices: Tensor, log_probabilities: Tensor, tail_log_mass: Tensor) -> None:
    leading = student_logits.shape[:-1]
    fits = indices.shape == log_probabilities.shape and indices.shape[:-1] == tail_log_mass.shape == leading
    if not fits or not 1 <= indices.shape[-1] <= student_logits.shape[-1]:
        raise ValueError(
            f"for student logits of shape {tuple(student_logits.shape)}, expected indices and log-probabilities of "
            f"shape {(*leading, 'k')} with k between 1 and {student_logits.shape[-1]}, and tail masses of shape "
            f"{tuple(leading)}, got {tuple(indices.shape)}, {tuple(log_probabilities.shape)} and "
            f"{tuple(tail_log_mass.shape)}"
        )


class TopKKD(DistillationMethod):
    """:func:`topk_tail_kl_loss` between student and teacher; all that it needs of a teacher fits into a small cache.

    A teacher whose top classes are all that is known (``TeacherCache(top_k=k)``) gives the same loss as a live one, as
    exactly as they are stored.

    Args:
        k: number of classes that are looked at one by one; all, where there are fewer.
        weight: factor in the total loss.

    Raises:
        ValueError: if ``k`` is not positive.
    """

    citation = Citation("LFM2 Technical Report", "Liquid AI", "technical report", 2025, "2511.23404")
    aliases = ("SparseKD", "TopKTailKD")
    reads_top_k = True

    def __init__(self, k: int = 10, weight: Weight = 1.0) -> None:
        super().__init__(weight)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k = k

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`topk_tail_kl_loss`."""
        return self.per_sample(exchange).mean()

    def per_sample(self, exchange: Exchange) -> Tensor:
        """The loss of each sample, ``(B,)``."""
        student_logits = exchange.student.logits
        if not exchange.teacher.partial:
            check_same_logits(student_logits, exchange.teacher.logits)
        top = exchange.teacher.top(min(self.k, student_logits.shape[-1]))
        losses = _per_sample(student_logits, top.indices, top.log_probabilities, top.log_tail)
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses
