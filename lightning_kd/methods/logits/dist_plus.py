"""DIST+: DIST's relations carried over to the last feature map."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters, pool_to_smaller, to_map
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, check_temperature
from lightning_kd.methods.logits._pearson import pearson
from lightning_kd.methods.logits.dist import dist_loss
from lightning_kd.schedules import Scheduled, value_at


def feature_relation_loss(
    student_features: Tensor, teacher_features: Tensor, iota: float = 1.0, kappa: float = 1.0
) -> Tensor:
    r"""Channel and spatial relation loss of DIST+.

    .. math:: \iota\,\big(1 - \overline{\rho_C(F^s, F^t)}\big) + \kappa\,\big(1 - \overline{\rho_B(A^s, A^t)}\big)

    :math:`\rho_C` correlates the channels at every position of every sample; :math:`\rho_B` correlates, over the
    batch, the map :math:`A` summed over the channels, at every position.

    Args:
        student_features: student map, ``(B, C, H, W)``.
        teacher_features: teacher map of the same shape; no gradient flows into it.
        iota: weight of the channel relation.
        kappa: weight of the spatial relation.

    Returns:
        Scalar, at least float32.

    Raises:
        ValueError: if the shapes differ or are not maps.

    Reference: Huang et al., "DIST+: Knowledge Distillation From a Stronger Adaptive Teacher", TPAMI 2025. The relations
    are those of the re-implementation in torchdistill 1.1.5, except for one sign: there the channel correlation itself
    is added, which a student would minimise by decorrelating; like every other term it must be one minus it.
    """
    if student_features.shape != teacher_features.shape or student_features.dim() != 4:
        raise ValueError(
            f"expected two maps (B, C, H, W) of one shape, got {tuple(student_features.shape)} and "
            f"{tuple(teacher_features.shape)}; project and resize the student's map first"
        )
    student, teacher = at_least_float32(student_features), at_least_float32(teacher_features.detach())
    channel = 1 - pearson(student, teacher, dim=1).mean()
    spatial = 1 - pearson(student.sum(1), teacher.sum(1), dim=0).mean()
    return iota * channel + kappa * spatial


class DISTPlus(DistillationMethod):
    """:func:`dist_loss` on the logits plus :func:`feature_relation_loss` on the deepest stage.

    Where the channels differ, a trained 1×1 convolution projects the student's map; where the sizes differ, the larger
    map is average-pooled. The paper's second part, acclimating the teacher to the student before distilling, is not
    included: give an acclimated teacher to get it.

    Args:
        beta: weight of the inter-class term.
        gamma: weight of the intra-class term.
        iota: weight of the channel relation.
        kappa: weight of the spatial relation.
        temperature: softmax temperature.
        layers: which maps to compare; ``"auto"`` takes the deepest stage.
        weight: factor in the total loss.
    """

    citation = Citation("DIST+: Knowledge Distillation From a Stronger Adaptive Teacher", "Huang et al.", "TPAMI", 2025)
    aliases = ("DISTPlusLoss",)

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        iota: float = 1.0,
        kappa: float = 1.0,
        temperature: Scheduled = 1.0,
        layers: Layers = "auto",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        check_temperature(temperature)
        self.beta, self.gamma, self.iota, self.kappa = beta, gamma, iota, kappa
        self.temperature = temperature
        self.projectors = nn.ModuleList()

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The deepest stage."""
        return pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Create a 1×1 convolution for every pair whose channels differ."""
        pairs = zip(self.student_features(context.exchange), self.teacher_features(context.exchange), strict=True)
        self.projectors = nn.ModuleList(_projector(student, teacher) for student, teacher in pairs)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`dist_loss` and :func:`feature_relation_loss`."""
        loss = dist_loss(
            exchange.student.logits,
            exchange.teacher.logits,
            self.beta,
            self.gamma,
            value_at(self.temperature, exchange.progress),
        )
        stages = zip(self.projectors, self.student_features(exchange), self.teacher_features(exchange), strict=True)
        for projector, student, teacher in stages:
            projected = projector(like_parameters(to_map(student), projector))
            loss = loss + feature_relation_loss(*pool_to_smaller(projected, to_map(teacher)), self.iota, self.kappa)
        return loss


def _projector(student: Tensor, teacher: Tensor) -> nn.Module:
    channels, teacher_channels = to_map(student).shape[1], to_map(teacher).shape[1]
    return nn.Identity() if channels == teacher_channels else nn.Conv2d(channels, teacher_channels, 1, bias=False)
