"""ND, the loss of KD++: align the embedding with its class, and do not let its norm fall behind."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import pooled
from lightning_kd.connectors.stack import Connector, TolerantBatchNorm1d
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, full_precision


def nd_loss(student_features: Tensor, teacher_features: Tensor, class_means: Tensor, target: Tensor) -> Tensor:
    r"""Norm and direction loss.

    With :math:`e_k = c_k / \|c_k\|` the direction of class :math:`k`'s mean embedding,

    .. math:: \mathbb E_i\Big[1 - \frac{\langle s_i, e_{y_i}\rangle}{\max(\|s_i\|, \|t_i\|)}\Big]

    A student embedding longer than the teacher's is only turned towards its class; a shorter one is also lengthened.

    Args:
        student_features: embeddings, ``(B, D)``.
        teacher_features: embeddings, ``(B, D)``; no gradient flows into them.
        class_means: the teacher's mean embedding of every class, ``(K, D)``.
        target: class indices, ``(B,)``.

    Returns:
        Scalar: mean over the batch, at least float32.

    Raises:
        ValueError: if shapes do not fit.

    Reference: Wang et al., "Improving Knowledge Distillation via Regularizing Feature Norm and Direction", 2023,
    arXiv:2305.17007.
    """
    if student_features.shape != teacher_features.shape or class_means.shape[-1] != student_features.shape[-1]:
        raise ValueError(
            "expected student and teacher embeddings (B, D) and class means (K, D), got "
            f"{tuple(student_features.shape)}, {tuple(teacher_features.shape)} and {tuple(class_means.shape)}; project "
            "the student's embedding to the teacher's width first"
        )
    check_labels(student_features, target)
    student = at_least_float32(student_features)
    teacher = at_least_float32(teacher_features.detach())
    directions = F.normalize(class_means.detach().to(student.dtype), dim=1)[target]
    norm = torch.maximum(torch.linalg.vector_norm(student, dim=1), torch.linalg.vector_norm(teacher, dim=1))
    along = (student * directions).sum(1)
    return (1 - along / norm.clamp(min=torch.finfo(norm.dtype).tiny)).mean()


class ND(DistillationMethod):
    """:func:`nd_loss` on the classifier's inputs.

    The class means come from one pass over the training set, with its augmentation, the teacher in eval mode. A student
    of another width is projected by batch norm, dropout and a linear layer, which serve this loss only. The paper's
    methods add it to another: KD++ is ``[KD(weight=…), ND(weight=…)]``, DKD++ and DIST++ alike, the other term ramped
    up over the first 20 epochs (5 on ImageNet).

    Args:
        dropout: dropout of the projector.
        layers: which layers to compare; features with positions are averaged over them.
        weight: factor in the total loss; the paper's values for KD++ lie between 0.5 and 2 on CIFAR-100, and between 1
            and 4 on ImageNet.
    """

    citation = Citation(
        "Improving Knowledge Distillation via Regularizing Feature Norm and Direction",
        "Wang et al.",
        "arXiv",
        2023,
        "2305.17007",
    )
    aliases = ("KD++", "NDLoss", "NormAndDirection")
    needs_target = True
    has_setup_pass = True
    needs_teacher_output = False

    projector: Connector
    class_means: Tensor

    def __init__(self, dropout: float = 0.5, layers: Layers = "penultimate", weight: Weight = 1.0) -> None:
        super().__init__(weight, layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.dropout = dropout
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    def build(self, context: BuildContext) -> None:
        """Create the projector and the class means, zeros until the setup pass.

        Raises:
            ValueError: if more than one pair of layers was given.
        """
        if len(self.pairs) != 1:
            raise ValueError(f"ND compares one pair of embeddings, got {len(self.pairs)}: {self.pairs}")
        student, teacher = self._student(context.exchange), self._teacher(context.exchange)
        inputs, width = student.shape[1], teacher.shape[1]
        layers: list[nn.Module] = []
        if inputs != width:
            layers = [TolerantBatchNorm1d(inputs), nn.Dropout(self.dropout), nn.Linear(inputs, width)]
        self.projector = Connector(*layers)
        self.register_buffer("class_means", torch.zeros(context.exchange.teacher.logits.shape[-1], width))

    def observe(self, exchange: Exchange) -> None:
        """Add the teacher's embeddings to the sums of their classes."""
        embeddings = at_least_float32(self._teacher(exchange))
        classes = F.one_hot(exchange.labels, self.class_means.shape[0]).to(embeddings.dtype)
        with full_precision(embeddings):
            sums, counts = classes.T @ embeddings, classes.sum(0)
        self._sums = sums if self._sums is None else self._sums + sums
        self._counts = counts if self._counts is None else self._counts + counts

    def finish_setup(self) -> None:
        """Turn the sums into means; a class without a sample keeps the zero vector, and with it the loss 1."""
        if self._sums is not None and self._counts is not None:
            self.class_means.copy_(self._sums / self._counts.clamp(min=1)[:, None])
        self._sums = self._counts = None

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`nd_loss`."""
        student = self.projector(self._student(exchange))
        return nd_loss(student, self._teacher(exchange), self.class_means, exchange.labels)

    def _student(self, exchange: Exchange) -> Tensor:
        return pooled(self.student_features(exchange)[0])

    def _teacher(self, exchange: Exchange) -> Tensor:
        return pooled(self.teacher_features(exchange)[0])
