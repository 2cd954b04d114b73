"""What the token losses share: masks, means over valid tokens, and finding the mask in an exchange."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits

IGNORE_INDEX = -100
"""Label of tokens that do not count, as in PyTorch's cross-entropy and in Hugging Face models."""


def log_probabilities(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities of both sides in at least float32, the teacher's detached.

    Raises:
        ValueError: if the logits differ in shape or the mask does not fit them.
    """
    check_same_logits(student_logits, teacher_logits)
    check_mask(student_logits, mask)
    student = F.log_softmax(at_least_float32(student_logits), dim=-1)
    return student, F.log_softmax(at_least_float32(teacher_logits.detach()), dim=-1)


def check_mask(logits: Tensor, mask: Tensor | None) -> None:
    """Raise ``ValueError`` unless the mask has the logits' leading shape."""
    if mask is not None and mask.shape != logits.shape[:-1]:
        raise ValueError(
            f"expected a mask of shape {tuple(logits.shape[:-1])} for logits of shape {tuple(logits.shape)}, got "
            f"{tuple(mask.shape)}; a mask marks the positions whose prediction counts"
        )


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of ``values`` over the valid positions; zero, with a zero gradient, where none is valid."""
    if mask is None:
        return values.mean()
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp_min(1)


def kl_per_token(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``KL(p || q)`` over the last dimension, with a gradient into both."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def share_of_tokens(mask: Tensor | None, like: Tensor) -> Tensor:
    """This rank's tokens over the mean number of tokens a rank: 1 in a single process.

    Distributed training averages gradients over the ranks. Multiplied by this share, the average of the ranks' means is
    the mean over all valid tokens of the global batch.
    """
    one = like.new_ones(())
    if mask is None or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return one
    count = mask.sum().to(like.dtype)
    total = count.clone()
    torch.distributed.all_reduce(total)
    return count * torch.distributed.get_world_size() / total.clamp_min(1)


class _TokenMethod(DistillationMethod):
    """Base of the methods that compare next-token distributions ``(B, T, V)``.

    The valid positions are those whose label is not ``ignore_index``; without labels all positions count. The mean is
    over the valid tokens of the global batch, whatever their distribution over the ranks.

    Args:
        weight: factor in the total loss.
        ignore_index: label of the positions to leave out.
        shift_labels: whether the labels are the inputs themselves, as Hugging Face models take them, so that the logits
            at a position predict the label at the next; ``False`` where the batch's labels are shifted already.
    """

    def __init__(self, weight: Weight = 1.0, ignore_index: int = IGNORE_INDEX, shift_labels: bool = False) -> None:
        super().__init__(weight)
        self.ignore_index, self.shift_labels = ignore_index, shift_labels

    def mask(self, exchange: Exchange) -> Tensor | None:
        """The valid positions, of the logits' leading shape, or ``None`` if all are.

        Raises:
            ValueError: if the labels do not fit the logits.
        """
        return self.mask_of(exchange, exchange.student.logits.shape[:-1])

    def mask_of(self, exchange: Exchange, positions: torch.Size) -> Tensor | None:
        """The valid ones of the ``positions``, or ``None`` if all are.

        Raises:
            ValueError: if there is not one label a position.
        """
        labels = exchange.target
        if not isinstance(labels, Tensor):
            return None
        if labels.shape != positions:
            raise ValueError(
                f"expected one label a position, {tuple(positions)}, got labels of shape {tuple(labels.shape)}; pass "
                "`target=` (an index, a key or a callable) so that the token labels are found in the batch"
            )
        if self.shift_labels:
            labels = F.pad(labels[..., 1:], (0, 1), value=self.ignore_index)
        return labels != self.ignore_index

    def loss(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None) -> Tensor:
        """The mean over this rank's valid tokens."""
        raise NotImplementedError(f"{type(self).__name__} must implement loss(student_logits, teacher_logits, mask)")

    def forward(self, exchange: Exchange) -> Tensor:
        """The pure loss on the valid tokens, rescaled so that ranks with more tokens count for more."""
        mask = self.mask(exchange)
        loss = self.loss(exchange.student.logits, exchange.teacher.logits, mask)
        return loss * share_of_tokens(mask, loss)
