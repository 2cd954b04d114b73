"""Total variation: a bounded distance between next-token distributions."""

from __future__ import annotations

from torch import Tensor

from lightning_kd.methods.base import Citation
from lightning_kd.methods.checks import at_least_float32, check_same_logits
from lightning_kd.methods.language._tokens import _TokenMethod, check_mask, masked_mean


def total_variation_loss(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Total variation distance, :math:`\tfrac12 \sum_v |p^t_v - p^s_v|` per token.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.

    Returns:
        Scalar in ``[0, 1]``: mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit.

    Reference: Wen et al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL 2023,
    arXiv:2307.15190.
    """
    check_same_logits(student_logits, teacher_logits)
    check_mask(student_logits, mask)
    student = at_least_float32(student_logits).softmax(-1)
    teacher = at_least_float32(teacher_logits.detach()).softmax(-1)
    return masked_mean((teacher - student).abs().sum(-1) / 2, mask)


class TotalVariation(_TokenMethod):
    """:func:`total_variation_loss` between next-token distributions."""

    citation = Citation(
        "f-Divergence Minimization for Sequence-Level Knowledge Distillation", "Wen et al.", "ACL", 2023, "2307.15190"
    )
    aliases = ("TVD",)

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`total_variation_loss`."""
        return total_variation_loss(student_logits, teacher_logits, mask)
