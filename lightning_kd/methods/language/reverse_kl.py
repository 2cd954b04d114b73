"""Reverse KL: the student keeps to what the teacher finds likely."""

from __future__ import annotations

from torch import Tensor

from lightning_kd.methods.base import Citation
from lightning_kd.methods.language._tokens import _TokenMethod, kl_per_token, log_probabilities, masked_mean


def reverse_kl_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Reverse KL, :math:`\mathrm{KL}(p^s \| p^t)` per token.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.

    Returns:
        Scalar: sum over the vocabulary, mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit.

    Reference: Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024, arXiv:2306.08543. The
    paper minimises it on the student's own samples by policy gradient; here it is the exact divergence on the given
    text.
    """
    student, teacher = log_probabilities(student_logits, teacher_logits, mask)
    return masked_mean(kl_per_token(student, teacher), mask)


class ReverseKL(_TokenMethod):
    """:func:`reverse_kl_loss` between next-token distributions."""

    citation = Citation(
        "MiniLLM: Knowledge Distillation of Large Language Models", "Gu et al.", "ICLR", 2024, "2306.08543"
    )
    aliases = ("RKL",)

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`reverse_kl_loss`."""
        return reverse_kl_loss(student_logits, teacher_logits, mask)
