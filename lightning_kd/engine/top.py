"""The likeliest classes of a prediction, and what the others amount to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TopK:
    """The ``k`` likeliest classes, normalised over all classes.

    Attributes:
        indices: the classes in ascending order, ``(..., k)``.
        log_probabilities: theirs, ``(..., k)``.
        log_tail: log of the mass of all other classes, ``(...)``; minus infinity where there is none.
    """

    indices: Tensor
    log_probabilities: Tensor
    log_tail: Tensor

    def narrowed(self, k: int) -> TopK:
        """The ``k`` likeliest of these; what is left out joins the tail.

        Args:
            k: not more than there are.
        """
        if k == self.indices.shape[-1]:
            return self
        kept = self.log_probabilities.topk(k, dim=-1).indices.sort(-1).values
        others = self.log_probabilities.scatter(-1, kept, -torch.inf).logsumexp(-1)
        tail = torch.logaddexp(others, self.log_tail.to(others.dtype))
        return TopK(self.indices.gather(-1, kept), self.log_probabilities.gather(-1, kept), tail)


def top_of(logits: Tensor, k: int) -> TopK:
    """The likeliest classes at temperature 1.

    Args:
        logits: ``(..., C)``; no gradient flows into them.
        k: how many; all where there are fewer.
    """
    logits = logits.detach()
    logits = logits.float() if logits.dtype.itemsize < 4 else logits
    log_probabilities = logits.log_softmax(-1)
    indices = log_probabilities.topk(min(k, logits.shape[-1]), dim=-1).indices.sort(-1).values
    tail = log_probabilities.scatter(-1, indices, -torch.inf).logsumexp(-1)
    return TopK(indices, log_probabilities.gather(-1, indices), tail)
