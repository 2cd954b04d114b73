"""FitNet: the student's middle layer, seen through a regressor, predicts the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.conv_regressor import ConvRegressor
from lightning_kd.connectors.linear_projector import LinearProjector
from lightning_kd.connectors.maps import to_map
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.features._stages import map_shape, total


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Mean squared error between the regressed student feature and the teacher's.

    The paper writes half the squared norm of the difference; the mean is what its published comparisons use.

    Args:
        student_features: any shape, already projected.
        teacher_features: the same shape; no gradient flows into it.

    Returns:
        Scalar: mean over all elements, at least float32.

    Raises:
        ValueError: if the shapes differ.

    Reference: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550.
    """
    if student_features.shape != teacher_features.shape:
        raise ValueError(
            f"student and teacher features must have the same shape, got {tuple(student_features.shape)} and "
            f"{tuple(teacher_features.shape)}; project the student's feature with a connector first"
        )
    return F.mse_loss(at_least_float32(student_features), at_least_float32(teacher_features.detach()))


class FitNet(DistillationMethod):
    """:func:`hint_loss` through a regressor that is inferred from the shapes.

    Maps go through a :class:`~lightning_kd.connectors.ConvRegressor`. Embeddings ``(B, D)``, and tokens ``(B, N, D)``
    with equally many tokens on both sides, go through a :class:`~lightning_kd.connectors.LinearProjector`; other tokens
    become square maps.

    With ``layers="auto"`` the hint is the middle stage (of three, the second; of four, the second).

    The paper trains in two stages, first the lower half of the student with the hint alone; like its later
    re-implementations, this adds the hint to the task loss throughout. For the paper's stages use a schedule as
    ``weight`` and as ``task_weight``.

    Args:
        relu: whether a ReLU ends the convolutional regressor; switch it off where the teacher's feature is not the
            output of a ReLU (ViT, ConvNeXt, pre-activation networks).
        layers: which layers to compare.
        weight: factor in the total loss; the usual CIFAR-100 value is 100.
    """

    citation = Citation("FitNets: Hints for Thin Deep Nets", "Romero et al.", "ICLR", 2015, "1412.6550")
    aliases = ("Hint", "HintLoss", "FitNets")
    needs_teacher_output = False

    def __init__(self, relu: bool = True, layers: Layers = "auto", weight: Weight = 100.0) -> None:
        super().__init__(weight, layers)
        self.relu = relu
        self.regressors = nn.ModuleList()

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The middle stage."""
        middle = (len(pairs) - 1) // 2
        return pairs[middle : middle + 1]

    def build(self, context: BuildContext) -> None:
        """Create one regressor a pair."""
        pairs = zip(self.student_features(context.exchange), self.teacher_features(context.exchange), strict=True)
        self.regressors = nn.ModuleList(self._regressor(student, teacher) for student, teacher in pairs)

    def _regressor(self, student: Tensor, teacher: Tensor) -> nn.Module:
        if _linear(student, teacher):
            return LinearProjector(student.shape[-1], teacher.shape[-1])
        return ConvRegressor(map_shape(student), map_shape(teacher), self.relu)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`hint_loss`."""
        losses = []
        for regressor, student, teacher in zip(
            self.regressors, self.student_features(exchange), self.teacher_features(exchange), strict=True
        ):
            if isinstance(regressor, LinearProjector):
                losses.append(hint_loss(regressor(student), teacher))
            else:
                target = to_map(teacher)
                losses.append(hint_loss(regressor(to_map(student), tuple(target.shape[2:])), target))
        return total(losses)


def _linear(student: Tensor, teacher: Tensor) -> bool:
    """Whether the features match position by position without a spatial layout."""
    return student.dim() == teacher.dim() and student.dim() < 4 and student.shape[:-1] == teacher.shape[:-1]
