"""SemCKD: every student layer learns from all teacher layers, weighted by semantic similarity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import pool_to_smaller, to_map
from lightning_kd.connectors.stack import bottleneck
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, full_precision


def semantic_calibration_loss(errors: Tensor, attention: Tensor) -> Tensor:
    r"""Attention-weighted errors of all pairs of layers.

    .. math:: \frac1{B L_s} \sum_{b,i,j} \alpha_{bij}\, e_{bij}

    Args:
        errors: mean squared error of every sample and pair of layers, ``(B, L_s, L_t)``.
        attention: weights that sum to one over the teacher's layers, ``(B, L_s, L_t)``.

    Returns:
        Scalar, at least float32.

    Raises:
        ValueError: if the shapes differ.

    Reference: Chen et al., "Cross-Layer Distillation with Semantic Calibration", AAAI 2021, arXiv:2012.03236.
    """
    if errors.shape != attention.shape or errors.dim() != 3:
        raise ValueError(
            f"expected errors and attention of one shape (B, L_s, L_t), got {tuple(errors.shape)} and "
            f"{tuple(attention.shape)}"
        )
    return (at_least_float32(attention) * at_least_float32(errors)).sum(2).mean()


class SemCKD(DistillationMethod):
    """:func:`semantic_calibration_loss` over all pairs of a student's and a teacher's stage.

    The attention of a sample compares its similarities to the samples of its batch, as the student's and the teacher's
    layer see them: rows of the Gram matrices go through small networks whose input is as wide as the batch. The
    authors' code therefore drops incomplete batches. Here a batch is cut into groups of ``group_size`` samples, and the
    rows of an incomplete group are padded with zeros, so that every batch size works; with batches of exactly
    ``group_size`` samples both are the same.

    Besides the task loss the authors' recipe adds ``KD()`` with weight 1.

    Args:
        group_size: samples whose similarities a sample is described by; the batch size of the usual CIFAR-100 recipe.
        hidden_factor: the embeddings of the attention have ``group_size // hidden_factor`` dimensions.
        temperature: divides the attention's energies.
        layers: which layers to compare, each of the student's with each of the teacher's.
        weight: factor in the total loss; 400 is the authors' CIFAR-100 value, 50 ImageNet's.

    Raises:
        ValueError: if the group is smaller than the factor, or the temperature is not positive.
    """

    citation = Citation("Cross-Layer Distillation with Semantic Calibration", "Chen et al.", "AAAI", 2021, "2012.03236")
    aliases = ("SemCKDLoss", "SemanticCalibration")
    needs_teacher_output = False

    def __init__(
        self,
        group_size: int = 64,
        hidden_factor: int = 4,
        temperature: float = 1.0,
        layers: Layers = "auto",
        weight: Weight = 400.0,
    ) -> None:
        super().__init__(weight, layers)
        if not 1 <= hidden_factor <= group_size:
            raise ValueError(f"expected 1 <= hidden_factor <= group_size, got {hidden_factor} and {group_size}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.group_size = group_size
        self.hidden_factor = hidden_factor
        self.temperature = temperature
        self.queries = nn.ModuleList()
        self.keys = nn.ModuleList()
        self.projectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create the attention's networks and a projector for every pair of layers."""
        student, teacher = self._maps(context.exchange)
        width = self.group_size // self.hidden_factor
        self.queries = nn.ModuleList(_Embedding(self.group_size, width) for _ in student)
        self.keys = nn.ModuleList(_Embedding(self.group_size, width) for _ in teacher)
        self.projectors = nn.ModuleList(
            bottleneck(s.shape[1], 2 * t.shape[1], t.shape[1], ends_in_relu=False) for s in student for t in teacher
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`semantic_calibration_loss`."""
        student, teacher = self._maps(exchange)
        return semantic_calibration_loss(self._errors(student, teacher), self.attention(student, teacher))

    def attention(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """How much every student layer of every sample attends to every teacher layer.

        Args:
            student: the student's maps, ``(B, C, H, W)`` each.
            teacher: the teacher's maps.

        Returns:
            ``(B, L_s, L_t)``, at least float32; sums to one over the last dimension.
        """
        queries = [self._embed(network, feature) for network, feature in zip(self.queries, student, strict=True)]
        keys = [self._embed(network, feature) for network, feature in zip(self.keys, teacher, strict=True)]
        query, key = torch.stack(queries, 1), torch.stack(keys, 2)
        with full_precision(query):
            return (query @ key / self.temperature).softmax(-1)

    def _embed(self, network: nn.Module, feature: Tensor) -> Tensor:
        rows = []
        for group in torch.split(at_least_float32(feature).flatten(1), self.group_size):
            with full_precision(group):
                similarities = group @ group.T
            rows.append(F.pad(similarities, (0, self.group_size - len(group))))
        embedded: Tensor = network(torch.cat(rows))
        return embedded

    def _errors(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        errors = []
        pairs = [(s, t) for s in student for t in teacher]
        for projector, (s, t) in zip(self.projectors, pairs, strict=True):
            source, target = pool_to_smaller(s, t)
            difference = at_least_float32(projector(source)) - at_least_float32(target)
            errors.append(difference.square().flatten(1).mean(1))
        return torch.stack(errors, 1).view(-1, len(student), len(teacher))

    def _maps(self, exchange: Exchange) -> tuple[list[Tensor], list[Tensor]]:
        student = [to_map(feature) for feature in self.student_features(exchange)]
        return student, [to_map(feature).detach() for feature in self.teacher_features(exchange)]


class _Embedding(nn.Module):
    """Two linear layers and unit length, in the precision of the input: similarities overflow half precision."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, 2 * width)
        self.output = nn.Linear(2 * width, width)

    def forward(self, similarities: Tensor) -> Tensor:
        with full_precision(similarities):
            hidden = _linear(self.hidden, similarities).relu()
            return F.normalize(_linear(self.output, hidden), dim=1)


def _linear(layer: nn.Linear, value: Tensor) -> Tensor:
    return F.linear(value, layer.weight.to(value.dtype), layer.bias.to(value.dtype))
