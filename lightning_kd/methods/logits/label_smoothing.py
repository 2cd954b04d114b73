"""Label smoothing: the baseline that every soft label has to beat."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels
from lightning_kd.methods.logits._classes import check_matrix


def label_smoothing_loss(student_logits: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    r"""Cross-entropy with a smoothed label.

    .. math:: -\sum_c q_c \log p_c, \qquad q = (1 - \epsilon)\,e_y + \epsilon / C

    The mass :math:`\epsilon` goes to all classes, the label included (Szegedy et al.; some repositories spread it over
    the others only).

    Args:
        student_logits: logits, ``(B, C)``.
        target: class indices, ``(B,)``.
        smoothing: mass :math:`\epsilon` that is spread evenly.

    Returns:
        Scalar: mean over the batch, at least float32.

    Raises:
        ValueError: if the shapes do not fit or ``smoothing`` is outside ``[0, 1]``.

    Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, arXiv:1512.00567.
    """
    check_matrix(student_logits)
    check_labels(student_logits, target)
    _check_smoothing(smoothing)
    return F.cross_entropy(at_least_float32(student_logits), target, label_smoothing=smoothing)


def _check_smoothing(smoothing: float) -> None:
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be in [0, 1], got {smoothing}")


class LabelSmoothing(DistillationMethod):
    """:func:`label_smoothing_loss`: a baseline without a teacher, in the place of the task loss (``task_weight=0``).

    Args:
        smoothing: mass that is spread evenly over the classes.
        weight: factor in the total loss.
    """

    citation = Citation(
        "Rethinking the Inception Architecture for Computer Vision", "Szegedy et al.", "CVPR", 2016, "1512.00567"
    )
    aliases = ("LS", "LSR")
    needs_teacher = False
    needs_target = True

    def __init__(self, smoothing: float = 0.1, weight: Weight = 1.0) -> None:
        super().__init__(weight)
        _check_smoothing(smoothing)
        self.smoothing = smoothing

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`label_smoothing_loss`."""
        return label_smoothing_loss(exchange.student.logits, exchange.labels, self.smoothing)
