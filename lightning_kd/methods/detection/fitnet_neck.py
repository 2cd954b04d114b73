"""FitNet for detectors: every level of the student's pyramid, through a convolution, predicts the teacher's."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from lightning_kd.connectors.stack import Connector
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.detection._pyramid import projected_pyramid
from lightning_kd.methods.features._stages import connectors_for, total
from lightning_kd.methods.features.fitnet import hint_loss


class FitNetNeck(DistillationMethod):
    r""":func:`hint_loss` at every level of the pyramid, the plain baseline of feature distillation for detectors.

    .. math:: \sum_l \mathrm{mean}\big((r_l(F^s_l) - F^t_l)^2\big)

    Every level has a convolution :math:`r_l` of its own, also between equal widths. It needs neither boxes nor a head.
    Levels of another size are resized to the teacher's.

    The paper is older than feature pyramids; this is the form in which papers on the distillation of detectors compare
    with it. :class:`FitNet` compares a single layer through a regressor with batch norm.

    Args:
        kernel: size of the convolutions, 1 or 3.
        layers: which layers to compare; by default all levels of the pyramid.
        weight: factor in the total loss.

    Raises:
        ValueError: for another size.
    """

    citation = Citation("FitNets: Hints for Thin Deep Nets", "Romero et al.", "ICLR", 2015, "1412.6550")
    aliases = ("NeckImitation", "FitNetDetection")

    def __init__(self, kernel: Literal[1, 3] = 1, layers: Layers = "auto", weight: Weight = 1.0) -> None:
        super().__init__(weight, layers)
        if kernel not in (1, 3):
            raise ValueError(f"kernel must be 1 or 3, got {kernel}")
        self.kernel = kernel
        self.connectors = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a convolution for every level."""
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            self.teacher_features(context.exchange),
            lambda student, teacher: Connector(
                nn.Conv2d(student[0], teacher[0], self.kernel, padding=self.kernel // 2)
            ),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`hint_loss`."""
        teacher = self.teacher_features(exchange)
        student = projected_pyramid(self.connectors, self.student_features(exchange), teacher)
        return total([hint_loss(s, t) for s, t in zip(student, teacher, strict=True)])
