"""Contrastive Representation Distillation: tell the teacher's embedding of the same sample from thousands of others."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.connectors.linear_projector import LinearProjector
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, full_precision
from lightning_kd.methods.relations._embeddings import embedding, unit_rows
from lightning_kd.methods.relations._gather import gather_batch
from lightning_kd.methods.relations._memory import MemoryBank, draw_candidates

Positives = Literal["exact", "relax"]


def noise_contrastive_loss(scores: Tensor, log_partition: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Noise-contrastive estimation of one positive among ``K`` negatives.

    .. math::
        \tfrac1B\sum_i -\log\sigma(h_{i0}) - \sum_{j=1}^{K}\log\sigma(-h_{ij}), \qquad
        h_{ij} = f_{ij} - \log \bar Z - \log K

    where :math:`\log\bar Z` is the log of the mean of :math:`e^f`. This is the authors' :math:`P/(P + K P_n)` with
    :math:`P = e^f / (n \bar Z)` and uniform noise :math:`P_n = 1/n`; in log form ``n`` cancels and no ``1e-7`` is
    needed.

    Args:
        scores: similarities over temperature, ``(B, 1 + K)``; the positive comes first.
        log_partition: scalar :math:`\log\bar Z`.
        valid: ``(B,)``, false where a sample has no negatives; their terms are left out.

    Returns:
        Scalar, at least float32: sum over the candidates, mean over the batch.

    Raises:
        ValueError: if there is no negative.

    Reference: Tian et al., "Contrastive Representation Distillation", ICLR 2020, arXiv:1910.10699.
    """
    if scores.dim() != 2 or scores.shape[1] < 2:
        raise ValueError(f"expected scores (B, 1 + K) with at least one negative, got shape {tuple(scores.shape)}")
    logits = at_least_float32(scores) - log_partition - math.log(scores.shape[1] - 1)
    negatives = F.softplus(logits[:, 1:]).sum(1)
    if valid is not None:
        negatives = negatives * valid
    return (F.softplus(-logits[:, 0]) + negatives).mean()


class CRD(DistillationMethod):
    """:func:`noise_contrastive_loss` both ways: student against remembered teachers, teacher against students.

    Both penultimate embeddings are projected to unit vectors and remembered in two banks with one row a training
    sample. The training data set must tell which sample is which::

        from lightning_kd.data import WithIndex
        loader = DataLoader(WithIndex(dataset), batch_size=64, shuffle=True)

    ``training_step`` still sees the plain batch. Where this differs from the authors' code:

    * Negatives are drawn here, on the device, from entries of other classes, with replacement; the authors' data set
      draws them without, which leaves the expected loss and gradient the same and costs 8 MB a batch of 64.
    * The classes of entries are learned as samples are seen, so in the first epoch an entry not yet visited may be
      drawn for its own class; it then holds random numbers, as every unvisited entry does in the authors' code.
    * Under DDP every rank gathers all ranks' embeddings, so the banks stay equal; batches must be equally large.

    The banks are buffers: they follow the module to its device and into checkpoints. Where a loader's last batch
    repeats a sample, the first one is remembered.

    Args:
        embedding_dim: width of the embeddings and of the banks.
        negatives: negatives a sample.
        temperature: divides the similarities.
        momentum: share of the old entry kept when a sample is seen again.
        positives: ``"exact"`` contrasts with the same sample, ``"relax"`` with a random one of its class.
        num_samples: size of the training set, where it cannot be found from the dataloader.
        layers: which layers to compare, one pair; maps and tokens are averaged.
        weight: factor in the total loss; the published recipe uses 0.8 with the full task loss (and 1 for KD when
            combined with it).
    """

    citation = Citation("Contrastive Representation Distillation", "Tian et al.", "ICLR", 2020, "1910.10699")
    aliases = ("CRDLoss",)
    needs_target = True
    needs_index = True
    needs_teacher_output = False

    log_partitions: Tensor

    def __init__(
        self,
        embedding_dim: int = 128,
        negatives: int = 16_384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        positives: Positives = "exact",
        num_samples: int | None = None,
        layers: Layers = "penultimate",
        weight: Weight = 0.8,
    ) -> None:
        super().__init__(weight, layers)
        if embedding_dim < 1 or negatives < 1 or not temperature > 0 or not 0 <= momentum < 1:
            raise ValueError(
                "expected embedding_dim >= 1, negatives >= 1, temperature > 0 and momentum in [0, 1), got "
                f"{embedding_dim}, {negatives}, {temperature} and {momentum}"
            )
        if positives not in ("exact", "relax"):
            raise ValueError(f'positives must be "exact" or "relax", got {positives!r}')
        self.embedding_dim, self.negatives = embedding_dim, negatives
        self.temperature, self.momentum = temperature, momentum
        self.positives: Positives = positives
        self.num_samples = num_samples

    def build(self, context: BuildContext) -> None:
        """Create the two projections and the two banks."""
        num_samples = self.num_samples or context.num_samples
        if num_samples is None:
            raise ValueError(
                "CRD keeps one entry a training sample, but the size of the training set is unknown; pass "
                "`num_samples=`, and wrap the data set in `lightning_kd.data.WithIndex`"
            )
        if len(self.pairs) != 1:
            raise ValueError(f"CRD compares one pair of layers, got {len(self.pairs)}: {self.pairs}; name one pair")
        student, teacher = self._features(context.exchange)
        self.student_embedding = LinearProjector(student.shape[1], self.embedding_dim)
        self.teacher_embedding = LinearProjector(teacher.shape[1], self.embedding_dim)
        self.bank = MemoryBank(num_samples, self.embedding_dim, self.momentum)
        self.register_buffer("log_partitions", torch.full((2,), math.inf))

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`noise_contrastive_loss`; also renews the bank entries of the batch."""
        index, labels = self._index(exchange), exchange.labels
        check_labels(exchange.student.logits, labels)
        student_features, teacher_features = self._features(exchange)
        student = self.student_embedding(student_features)
        teacher = self.teacher_embedding(teacher_features.detach())
        with full_precision(student):
            student, teacher = unit_rows(at_least_float32(student)), unit_rows(at_least_float32(teacher))
            all_index, all_labels = gather_batch(index), gather_batch(labels)
            self.bank.learn_labels(all_index, all_labels)
            candidates, valid = draw_candidates(self.bank.labels, index, labels, self.negatives, self.positives)
            scores = [
                self.bank.similarities(side, "teacher" if side is student else "student", candidates) / self.temperature
                for side in (student, teacher)
            ]
            partitions = self._partitions(scores)
            loss = sum(
                noise_contrastive_loss(side, partition, valid)
                for side, partition in zip(scores, partitions, strict=True)
            )
            self.bank.renew(all_index, gather_batch(student), gather_batch(teacher))
        assert isinstance(loss, Tensor)
        return loss

    def _features(self, exchange: Exchange) -> tuple[Tensor, Tensor]:
        (student,), (teacher,) = self.student_features(exchange), self.teacher_features(exchange)
        return embedding(student), embedding(teacher)

    def _index(self, exchange: Exchange) -> Tensor:
        if exchange.index is None:
            raise ValueError(
                "CRD must know which training samples are in the batch, but the batch holds no indices: wrap the "
                "training data set, `DataLoader(lightning_kd.data.WithIndex(dataset), ...)`"
            )
        return exchange.index

    def _partitions(self, scores: list[Tensor]) -> Tensor:
        """Log of the mean exponential score, fixed at the first batch as the authors do; one value a side."""
        with torch.no_grad():
            means = torch.stack([side.flatten().logsumexp(0) - math.log(side.numel()) for side in scores])
            ranks = gather_batch(means.unsqueeze(0))
            first = ranks.logsumexp(0) - math.log(ranks.shape[0])
            self.log_partitions.copy_(torch.where(self.log_partitions.isinf(), first, self.log_partitions))
        # a copy: the graph must not see the buffer change
        return self.log_partitions.to(first.dtype, copy=True)
