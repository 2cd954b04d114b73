"""SRRL: the student's embedding must mean the same to the teacher's classifier."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.connectors.maps import pooled
from lightning_kd.connectors.stack import Connector, conv_norm
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits
from lightning_kd.methods.features._teacher_classifier import ReusedClassifier
from lightning_kd.methods.features.fitnet import hint_loss


def softmax_regression_loss(predicted_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Mean squared error between the logits that the teacher's classifier gives both embeddings.

    Args:
        predicted_logits: teacher's classifier on the student's embedding, ``(B, C)``.
        teacher_logits: the teacher's logits, ``(B, C)``; no gradient flows into them.

    Returns:
        Scalar: mean over classes and batch, at least float32.

    Raises:
        ValueError: if the shapes differ.

    Reference: Yang et al., "Knowledge Distillation via Softmax Regression Representation Learning", ICLR 2021.
    """
    check_same_logits(predicted_logits, teacher_logits)
    return F.mse_loss(at_least_float32(predicted_logits), at_least_float32(teacher_logits.detach()))


class SRRL(DistillationMethod):
    """Embedding and softmax-regression terms, with equal weights.

    The student's embedding goes through a 1×1 convolution, batch norm and ReLU to the teacher's width. The loss is the
    mean squared error to the teacher's embedding plus :func:`softmax_regression_loss`. Besides the task loss the usual
    CIFAR-100 comparison adds ``KD()`` with weight 1.

    Args:
        layers: which layers to compare; by default what both classifiers read.
        weight: factor in the total loss.
    """

    citation = Citation(
        "Knowledge Distillation via Softmax Regression Representation Learning", "Yang et al.", "ICLR", 2021
    )
    aliases = ("SoftmaxRegression",)

    projector: Connector
    classifier: ReusedClassifier

    def __init__(self, layers: Layers = "penultimate", weight: Weight = 1.0) -> None:
        super().__init__(weight, layers)

    def build(self, context: BuildContext) -> None:
        """Create the projector and copy the teacher's classifier.

        Raises:
            ValueError: if more than one pair of layers was given, or no classifier reads the tapped feature.
        """
        if len(self.pairs) != 1:
            raise ValueError(f"SRRL compares one pair of embeddings, got {len(self.pairs)}: {self.pairs}")
        student, teacher = self._embeddings(context.exchange)
        self.projector = conv_norm(student.shape[1], teacher.shape[1], relu=True)
        classes = context.exchange.teacher.logits.shape[-1]
        self.classifier = ReusedClassifier(context.teachers[0], teacher.shape[1], classes)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`softmax_regression_loss`."""
        student, teacher = self._embeddings(exchange)
        projected = self.projector(student[:, :, None, None]).flatten(1)
        predicted = self.classifier(projected)
        return hint_loss(projected, teacher) + softmax_regression_loss(predicted, exchange.teacher.logits)

    def _embeddings(self, exchange: Exchange) -> tuple[Tensor, Tensor]:
        return pooled(self.student_features(exchange)[0]), pooled(self.teacher_features(exchange)[0])
