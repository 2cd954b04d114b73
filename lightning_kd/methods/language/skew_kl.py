"""Skew KL: forward and reverse KL against a mixture, whose gradients stay small where one side has no mass."""

from __future__ import annotations

from torch import Tensor

from lightning_kd.methods._mixture import log_mixture
from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits
from lightning_kd.methods.language._tokens import (
    IGNORE_INDEX,
    _TokenMethod,
    check_mask,
    kl_per_token,
    masked_mean,
)

_CITATION = Citation(
    "DistiLLM: Towards Streamlined Distillation for Large Language Models", "Ko et al.", "ICML", 2024, "2402.03898"
)


def skew_forward_kl_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None, alpha: float = 0.1
) -> Tensor:
    r"""Skew forward KL, :math:`\mathrm{KL}(p^t \| \alpha p^t + (1-\alpha) p^s)` per token.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.
        alpha: share of the teacher in the mixture, in ``[0, 1)``; 0 is the forward KL.

    Returns:
        Scalar: sum over the vocabulary, mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit or ``alpha`` is outside ``[0, 1)``.

    Reference: Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024,
    arXiv:2402.03898.
    """
    student, teacher = _raised(student_logits, teacher_logits, mask, alpha)
    if alpha == 0:
        return masked_mean(kl_per_token(teacher.log_softmax(-1), student.log_softmax(-1)), mask)
    log_p = teacher.log_softmax(-1)
    p = log_p.exp()
    return masked_mean((p * (log_p - log_mixture(student.softmax(-1), p, alpha))).sum(-1), mask)


def skew_reverse_kl_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None, alpha: float = 0.1
) -> Tensor:
    r"""Skew reverse KL, :math:`\mathrm{KL}(p^s \| (1-\alpha) p^t + \alpha p^s)` per token.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.
        alpha: share of the student in the mixture, in ``[0, 1)``; 0 is the reverse KL.

    Returns:
        Scalar: sum over the vocabulary, mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit or ``alpha`` is outside ``[0, 1)``.

    Reference: Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", ICML 2024,
    arXiv:2402.03898.
    """
    student, teacher = _raised(student_logits, teacher_logits, mask, alpha)
    if alpha == 0:
        return masked_mean(kl_per_token(student.log_softmax(-1), teacher.log_softmax(-1)), mask)
    log_p = student.log_softmax(-1)
    p = log_p.exp()
    return masked_mean((p * (log_p - log_mixture(p, teacher.softmax(-1), 1 - alpha))).sum(-1), mask)


def _raised(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None, alpha: float) -> tuple[Tensor, Tensor]:
    check_same_logits(student_logits, teacher_logits)
    check_mask(student_logits, mask)
    _check_alpha(alpha)
    return at_least_float32(student_logits), at_least_float32(teacher_logits.detach())


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be in [0, 1), got {alpha}; 0 is the plain KL, 1 would compare a side with itself")


class SkewForwardKL(_TokenMethod):
    """:func:`skew_forward_kl_loss` between next-token distributions.

    Args:
        alpha: share of the teacher in the mixture.
        weight: factor in the total loss.
        ignore_index: label of the positions to leave out.
        shift_labels: whether labels are unshifted, as Hugging Face models take them.
    """

    citation = _CITATION
    aliases = ("SFKL", "SkewKL", "SKL")

    def __init__(
        self,
        alpha: float = 0.1,
        weight: Weight = 1.0,
        ignore_index: int = IGNORE_INDEX,
        shift_labels: bool = False,
    ) -> None:
        super().__init__(weight, ignore_index, shift_labels)
        _check_alpha(alpha)
        self.alpha = alpha

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`skew_forward_kl_loss`."""
        return skew_forward_kl_loss(student_logits, teacher_logits, mask, self.alpha)


class SkewReverseKL(_TokenMethod):
    """:func:`skew_reverse_kl_loss` between next-token distributions.

    Args:
        alpha: share of the student in the mixture.
        weight: factor in the total loss.
        ignore_index: label of the positions to leave out.
        shift_labels: whether labels are unshifted, as Hugging Face models take them.
    """

    citation = _CITATION
    aliases = ("SRKL",)

    def __init__(
        self,
        alpha: float = 0.1,
        weight: Weight = 1.0,
        ignore_index: int = IGNORE_INDEX,
        shift_labels: bool = False,
    ) -> None:
        super().__init__(weight, ignore_index, shift_labels)
        _check_alpha(alpha)
        self.alpha = alpha

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`skew_reverse_kl_loss`."""
        return skew_reverse_kl_loss(student_logits, teacher_logits, mask, self.alpha)
