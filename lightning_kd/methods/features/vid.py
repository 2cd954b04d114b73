"""Variational information distillation: a Gaussian around a prediction of the teacher's features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import pool_to_smaller, to_map
from lightning_kd.connectors.stack import Connector
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.features._stages import Shape, check_same_maps, connectors_for, stage_maps, total


def vid_loss(means: Sequence[Tensor], teacher_features: Sequence[Tensor], variances: Sequence[Tensor]) -> Tensor:
    r"""Negative log-likelihood of the teacher's features, without its constant.

    .. math::
        \sum_l \mathrm{mean}\Big(\tfrac12\Big[\frac{(\mu_l - t_l)^2}{\sigma^2_{l,c}} + \log \sigma^2_{l,c}\Big]\Big)

    Args:
        means: one map a stage: the teacher's features predicted from the student's, ``(B, C, H, W)``.
        teacher_features: the same shapes; no gradient flows into them.
        variances: one ``(C,)`` a stage, positive.

    Returns:
        Scalar: mean over all elements of a stage, sum over the stages, at least float32. It may be negative.

    Raises:
        ValueError: if the numbers of stages or the shapes differ.

    Reference: Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019, arXiv:1904.05835.
    """
    losses = []
    for (mean, teacher), variance in zip(stage_maps(means, teacher_features), variances, strict=True):
        check_same_maps(mean, teacher, "VID")
        variance = variance.to(mean).view(1, -1, 1, 1)
        losses.append(0.5 * ((mean - teacher).square() / variance + variance.log()).mean())
    return total(losses)


class VID(DistillationMethod):
    """:func:`vid_loss` with a regressor and one variance a channel for every stage, all trained.

    The larger map of a stage is average-pooled to the smaller before the regressor, three 1×1 convolutions as wide as
    the teacher's stage. Some re-implementations keep the variances outside the optimizer, which leaves a plain
    weighted squared error; here they train.

    Args:
        initial_variance: variance at the start of the training.
        eps: smallest variance.
        layers: which layers to compare.
        weight: factor in the total loss.

    Raises:
        ValueError: if the initial variance does not exceed ``eps``.
    """

    citation = Citation(
        "Variational Information Distillation for Knowledge Transfer", "Ahn et al.", "CVPR", 2019, "1904.05835"
    )
    aliases = ("VIDLoss",)
    needs_teacher_output = False

    def __init__(
        self, initial_variance: float = 5.0, eps: float = 1e-5, layers: Layers = "auto", weight: Weight = 1.0
    ) -> None:
        super().__init__(weight, layers)
        if not initial_variance > eps > 0:
            raise ValueError(f"expected initial_variance > eps > 0, got {initial_variance} and {eps}")
        self.initial_variance = initial_variance
        self.eps = eps
        self.regressors = nn.ModuleList()
        self.scales = nn.ParameterList()

    def build(self, context: BuildContext) -> None:
        """Create a regressor and the scales of the variances for every stage."""
        teacher_features = self.teacher_features(context.exchange)
        self.regressors = connectors_for(self.student_features(context.exchange), teacher_features, _regressor)
        start = math.log(math.expm1(self.initial_variance - self.eps))
        self.scales = nn.ParameterList(torch.full((to_map(feature).shape[1],), start) for feature in teacher_features)

    @property
    def variances(self) -> list[Tensor]:
        """One ``(C,)`` a stage."""
        return [F.softplus(at_least_float32(scale)) + self.eps for scale in self.scales]

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`vid_loss`."""
        means, targets = [], []
        features = zip(self.student_features(exchange), self.teacher_features(exchange), strict=True)
        for regressor, (student, teacher) in zip(self.regressors, features, strict=True):
            pooled, target = pool_to_smaller(to_map(student), to_map(teacher))
            means.append(regressor(pooled))
            targets.append(target)
        return vid_loss(means, targets, self.variances)


def _regressor(student: Shape, teacher: Shape) -> nn.Module:
    inputs, outputs = student[0], teacher[0]
    return Connector(
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1, bias=False),
    )
