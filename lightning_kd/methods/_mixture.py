"""The logarithm of a mixture of the student's and the teacher's distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def log_mixture(student: Tensor, teacher: Tensor, share: float) -> Tensor:
    """Logarithm of ``(1 - share) * student + share * teacher``, with a gradient into the student.

    Adding probabilities is several times faster than adding their logarithms. What it needs is that no sum underflows
    to zero. The teacher's side has no gradient, so a floor there, which adds at most the smallest normal number to the
    mixture, is all it takes.

    Args:
        student: probabilities, ``(..., C)``.
        teacher: probabilities of the same shape, detached.
        share: the teacher's share, in ``(0, 1]``.
    """
    floored = teacher.clamp_min(torch.finfo(teacher.dtype).tiny / share)
    return torch.lerp(student, floored, share).log()
