"""Two memory banks with one row a training sample, and the drawing of contrast candidates from them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.relations._embeddings import unit_rows

Side = Literal["student", "teacher"]

_UNSEEN = -1


class MemoryBank(nn.Module):
    """Remembered unit embeddings of student and teacher and the classes of the samples seen so far.

    Args:
        num_samples: rows, one a training sample.
        dim: width of the embeddings.
        momentum: share of the old entry kept when a sample is seen again.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor

    def __init__(self, num_samples: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        bound = math.sqrt(3 / dim)
        for side in ("student", "teacher"):
            self.register_buffer(side, torch.empty(num_samples, dim).uniform_(-bound, bound))
        self.register_buffer("labels", torch.full((num_samples,), _UNSEEN))

    def learn_labels(self, index: Tensor, labels: Tensor) -> None:
        """Note the classes ``(B,)`` of the samples ``index`` ``(B,)``."""
        self.labels.index_copy_(0, index, labels.to(self.labels.dtype))

    def similarities(self, embeddings: Tensor, against: Side, candidates: Tensor) -> Tensor:
        """Dot products with remembered entries.

        Args:
            embeddings: ``(B, D)``.
            against: which bank.
            candidates: rows of the bank, ``(B, M)``.

        Returns:
            ``(B, M)``, differentiable in ``embeddings`` and cut off from later changes of the bank.
        """
        bank = self.student if against == "student" else self.teacher
        (num_samples, dim), batch = bank.shape, len(embeddings)
        if num_samples * (dim + batch) <= candidates.numel() * dim:
            # all products and a choice among them: less memory than a copy of the rows of every candidate
            return (embeddings @ at_least_float32(bank).clone().mT).gather(1, candidates)
        return torch.einsum("bd,bmd->bm", embeddings, at_least_float32(bank[candidates]))

    @torch.no_grad()
    def renew(self, index: Tensor, student: Tensor, teacher: Tensor) -> None:
        """Move the entries of a batch towards its embeddings, and back to unit length.

        Args:
            index: ``(B,)``; of equal indices the first counts, on every device alike.
            student: unit embeddings, ``(B, D)``.
            teacher: unit embeddings, ``(B, D)``.
        """
        first = (index.unsqueeze(1) == index.unsqueeze(0)).int().argmax(1)
        for bank, fresh in ((self.student, student), (self.teacher, teacher)):
            old = at_least_float32(bank[index])
            new = unit_rows(self.momentum * old + (1 - self.momentum) * fresh[first])
            bank.index_copy_(0, index, new.to(bank.dtype))


def draw_candidates(
    bank_labels: Tensor,
    index: Tensor,
    labels: Tensor,
    negatives: int,
    positives: Literal["exact", "relax"] = "exact",
) -> tuple[Tensor, Tensor]:
    """Draw a positive and ``negatives`` entries of other classes for each sample, uniformly, with replacement.

    Entries are sorted by class, so that "any entry but those of my class" is a range with a hole, from which a
    uniform number picks without rejection or host synchronisation. Entries of unknown class count as another class.

    Args:
        bank_labels: class of every entry, ``(N,)``, -1 where unknown; those of the batch must be known.
        index: entries of the batch, ``(B,)``.
        labels: classes of the batch, ``(B,)``.
        negatives: negatives a sample, ``K``.
        positives: ``"exact"``: the sample's own entry; ``"relax"``: a random entry of its class.

    Returns:
        Entries, ``(B, 1 + K)`` with the positive first, and whether there is any entry of another class, ``(B,)``.
    """
    total = bank_labels.shape[0]
    ordered, order = bank_labels.sort(stable=True)
    labels = labels.to(ordered.dtype).contiguous()
    start = torch.searchsorted(ordered, labels).unsqueeze(1)
    same = torch.searchsorted(ordered, labels, right=True).unsqueeze(1) - start
    others = total - same
    # float32 cannot address every entry of a larger bank
    dtype = torch.float32 if total < 2**24 else torch.float64
    draw = (torch.rand(index.shape[0], negatives, device=index.device, dtype=dtype) * others).long()
    draw = torch.minimum(draw, others - 1)
    position = torch.where(draw >= start, draw + same, draw).clamp(0, total - 1)
    positive = index.unsqueeze(1)
    if positives == "relax":
        pick = (torch.rand(positive.shape, device=index.device, dtype=dtype) * same).long()
        positive = order[start + torch.minimum(pick, same - 1)]
    return torch.cat([positive, order[position]], 1), others.squeeze(1) > 0
