"""Forward KL: the student covers whatever the teacher finds likely."""

from __future__ import annotations

from torch import Tensor

from lightning_kd.methods.base import Citation
from lightning_kd.methods.language._tokens import _TokenMethod, kl_per_token, log_probabilities, masked_mean


def forward_kl_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Forward KL, :math:`\mathrm{KL}(p^t \| p^s)` per token.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.

    Returns:
        Scalar: sum over the vocabulary, mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit.

    Reference: Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016, arXiv:1606.07947 (word-level KD).
    """
    student, teacher = log_probabilities(student_logits, teacher_logits, mask)
    return masked_mean(kl_per_token(teacher, student), mask)


class ForwardKL(_TokenMethod):
    """:func:`forward_kl_loss` between next-token distributions."""

    citation = Citation("Sequence-Level Knowledge Distillation", "Kim and Rush", "EMNLP", 2016, "1606.07947")
    aliases = ("FKL", "WordLevelKD")

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`forward_kl_loss`."""
        return forward_kl_loss(student_logits, teacher_logits, mask)
