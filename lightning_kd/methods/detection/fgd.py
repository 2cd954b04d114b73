"""FGD: imitate foreground, background and global context apart, weighted by the teacher's attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters, to_map
from lightning_kd.connectors.stack import channel_adapter
from lightning_kd.detection.truth import ground_truth
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, check_temperature, full_precision
from lightning_kd.methods.detection._masks import focal_masks
from lightning_kd.methods.detection._pyramid import check_levels, projected_pyramid
from lightning_kd.methods.features._stages import check_same_maps, connectors_for, map_shape, stage_maps, total
from lightning_kd.schedules import Scheduled, value_at

DetectorKind = Literal["retinanet", "gfl", "solo", "two-stage", "reppoints", "fcos"]
"""A student whose hyper-parameters the authors published."""

_ONE_STAGE = (1e-3, 5e-4, 5e-4, 5e-6, 0.5)
_PUBLISHED: dict[DetectorKind, tuple[float, float, float, float, float]] = {
    "retinanet": _ONE_STAGE,
    "gfl": _ONE_STAGE,
    "solo": _ONE_STAGE,
    "two-stage": (5e-5, 2.5e-5, 5e-5, 5e-7, 0.5),
    "reppoints": (1.6e-3, 8e-4, 8e-4, 8e-6, 0.5),
    "fcos": (1.6e-3, 8e-4, 8e-4, 8e-6, 0.8),
}


def fgd_loss(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    student_contexts: Sequence[Tensor],
    teacher_contexts: Sequence[Tensor],
    boxes: Sequence[Tensor],
    image_size: tuple[int, int],
    alpha: float = 1e-3,
    beta: float = 5e-4,
    gamma: float = 5e-4,
    lambda_: float = 5e-6,
    temperature: float = 0.5,
) -> Tensor:
    r"""Focal and global distillation loss.

    With the spatial and channel attention of a map,
    :math:`A^S = HW\,\mathrm{softmax}_{hw}\big(\tfrac1C \sum_c |F| / T\big)` and
    :math:`A^C = C\,\mathrm{softmax}_c\big(\tfrac1{HW} \sum_{hw} |F| / T\big)`, every level adds

    .. math:: \frac1B \sum \Big[(\alpha M^{fg} + \beta M^{bg})\, A^S_t A^C_t\, (F_t - F_s)^2
        + \gamma \big(|A^S_s - A^S_t| + |A^C_s - A^C_t|\big) + \lambda\, (G_t - G_s)^2\Big]

    where :math:`G` is the map with its global context added. :math:`M^{fg}` is one over the number of cells of the
    smallest box that covers a position, and 0 where none does; there :math:`M^{bg}` is one over the number of such
    positions.

    Args:
        student_features: one map a level, ``(B, C, H, W)``.
        teacher_features: the same shapes; no gradient flows into them.
        student_contexts: :math:`G_s` of every level, of the same shapes.
        teacher_contexts: :math:`G_t` of every level. A gradient flows into them: the module that adds the teacher's
            context is trained.
        boxes: for every image ``(G, 4)`` as ``x1, y1, x2, y2`` in pixels; an image may have none.
        image_size: height and width in pixels of the padded images.
        alpha: weight of the foreground.
        beta: weight of the background.
        gamma: weight of the attention.
        lambda_: weight of the global context.
        temperature: softmax temperature ``T`` of the attention.

    Returns:
        Scalar: sum over levels, positions and channels, mean over the batch, at least float32.

    Raises:
        ValueError: if the numbers of levels or images or the shapes differ, or the temperature is not positive.

    Reference: Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022, arXiv:2111.11837.
    """
    check_temperature(temperature)
    check_levels("FGD", student_features, teacher_features, student_contexts, teacher_contexts)
    losses = []
    levels = zip(stage_maps(student_features, teacher_features), student_contexts, teacher_contexts, strict=True)
    for (student, teacher), student_context, teacher_context in levels:
        check_same_maps(student, teacher, "FGD")
        check_same_maps(student_context, teacher_context, "FGD")
        (spatial, channel), (student_spatial, student_channel) = (
            _attention(f, temperature) for f in (teacher, student)
        )
        foreground, background = focal_masks(boxes, teacher, image_size)
        focus = ((alpha * foreground + beta * background)[:, None] * spatial * channel * (teacher - student) ** 2).sum()
        attention = (student_spatial - spatial).abs().sum() + (student_channel - channel).abs().sum()
        context = ((at_least_float32(teacher_context) - at_least_float32(student_context)) ** 2).sum()
        losses.append((focus + gamma * attention + lambda_ * context) / student.shape[0])
    return total(losses)


def _attention(feature: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Spatial ``(B, 1, H, W)`` and channel attention ``(B, C, 1, 1)``; their means are one."""
    strength = feature.abs()
    where = strength.mean(1, keepdim=True)
    spatial = (where.flatten(2) / temperature).softmax(2).view_as(where) * feature.shape[2:].numel()
    channel = (strength.mean((2, 3), keepdim=True) / temperature).softmax(1) * feature.shape[1]
    return spatial, channel


class _GlobalContext(nn.Module):
    """Adds to every position a transform of the map's attention-weighted mean; at first nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.attend = nn.Conv2d(channels, 1, 1)
        last = nn.Conv2d(hidden, channels, 1)
        self.transform = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(), last)
        nn.init.kaiming_normal_(self.attend.weight, mode="fan_in", nonlinearity="relu")
        for parameter in (self.attend.bias, last.weight, last.bias):
            assert parameter is not None
            nn.init.zeros_(parameter)

    def forward(self, feature: Tensor) -> Tensor:
        feature = like_parameters(feature, self)
        share = self.attend(feature).flatten(2).softmax(2)
        context = (feature.flatten(2) * share).sum(2)[:, :, None, None]
        added: Tensor = self.transform(context)
        return feature + added


class FGD(DistillationMethod):
    """:func:`fgd_loss` between the levels of two feature pyramids.

    It needs ground-truth boxes but no head, so that one-stage and two-stage detectors and any two of them will do;
    for two-stage detectors the authors compare four levels, ``layers=lightning_kd.detection.taps(levels=4)``. A student
    of another width goes through 1×1 convolutions, one of another size is resized to the teacher's.

    The global context of a map is a mean of its positions, weighted by a softmax over a 1×1 convolution, and sent
    through a bottleneck: 1×1 convolution to half the channels, layer norm, ReLU, 1×1 convolution. The modules for it,
    one for the student and one for the teacher at every level, are trained with the student and start by adding
    nothing. All is computed in full precision: the sums are large.

    Boxes refer to the padded batch of images, as the maps do. The authors' code divides them by the size without
    padding, which stretches the masks of padded images.

    The loss sums over positions and channels; the authors train with gradients clipped to a norm of 35.

    :meth:`for_detector` makes it with the published values:

    * RetinaNet, GFL and SOLO, the defaults: alpha 0.001, beta 0.0005, gamma 0.0005, lambda 5e-6, temperature 0.5.
    * Two-stage detectors: alpha 5e-5, beta 2.5e-5, gamma 5e-5, lambda 5e-7, temperature 0.5.
    * RepPoints and FCOS: alpha 0.0016, beta 0.0008, gamma 0.0008, lambda 8e-6, temperature 0.5 and 0.8.

    Args:
        alpha: weight of the foreground.
        beta: weight of the background.
        gamma: weight of the attention.
        lambda_: weight of the global context.
        temperature: softmax temperature of the attention.
        layers: which layers to compare; by default all levels of the pyramid.
        weight: factor in the total loss.
    """

    citation = Citation(
        "Focal and Global Knowledge Distillation for Detectors", "Yang et al.", "CVPR", 2022, "2111.11837"
    )
    aliases = ("FGDLoss", "FocalGlobalDistillation")
    needs_target = True

    def __init__(
        self,
        alpha: float = 1e-3,
        beta: float = 5e-4,
        gamma: float = 5e-4,
        lambda_: float = 5e-6,
        temperature: Scheduled = 0.5,
        layers: Layers = "auto",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        check_temperature(temperature)
        if min(alpha, beta, gamma, lambda_) < 0:
            raise ValueError(
                f"the weights must not be negative, got alpha={alpha}, beta={beta}, gamma={gamma}, lambda_={lambda_}"
            )
        self.alpha, self.beta, self.gamma, self.lambda_ = alpha, beta, gamma, lambda_
        self.temperature = temperature
        self.connectors = nn.ModuleList()
        self.student_contexts = nn.ModuleList()
        self.teacher_contexts = nn.ModuleList()

    @classmethod
    def for_detector(cls, kind: DetectorKind, layers: Layers = "auto", weight: Weight = 1.0) -> FGD:
        """FGD with the values that the authors published for a kind of student.

        Args:
            kind: ``"retinanet"``, ``"gfl"``, ``"solo"``, ``"two-stage"``, ``"reppoints"`` or ``"fcos"``.
            layers: as for the class.
            weight: as for the class.

        Raises:
            ValueError: for a kind without published values.

        >>> FGD.for_detector("fcos").temperature
        0.8
        """
        if kind not in _PUBLISHED:
            raise ValueError(
                f"no values of FGD are published for {kind!r}; choose one of {', '.join(get_args(DetectorKind))}, or "
                "set alpha, beta, gamma and lambda_"
            )
        return cls(*_PUBLISHED[kind], layers=layers, weight=weight)

    def build(self, context: BuildContext) -> None:
        """Create a connector and two context modules for every level."""
        teacher = self.teacher_features(context.exchange)
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            teacher,
            lambda student, teacher: channel_adapter(student[0], teacher[0]),
        )
        widths = [map_shape(feature)[0] for feature in teacher]
        self.student_contexts = nn.ModuleList(_GlobalContext(width) for width in widths)
        self.teacher_contexts = nn.ModuleList(_GlobalContext(width) for width in widths)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`fgd_loss`."""
        truth = ground_truth(exchange)
        teacher = [at_least_float32(to_map(feature.detach())) for feature in self.teacher_features(exchange)]
        with full_precision(teacher[0]):
            student = projected_pyramid(self.connectors, self.student_features(exchange), teacher)
            return fgd_loss(
                student,
                teacher,
                [module(feature) for module, feature in zip(self.student_contexts, student, strict=True)],
                [module(feature) for module, feature in zip(self.teacher_contexts, teacher, strict=True)],
                truth.boxes,
                truth.image_size,
                self.alpha,
                self.beta,
                self.gamma,
                self.lambda_,
                value_at(self.temperature, exchange.progress),
            )
