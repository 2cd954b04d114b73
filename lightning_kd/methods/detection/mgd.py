"""MGD: a student's map with holes must suffice to generate the teacher's whole map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_kd.connectors.stack import Connector, channel_adapter
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.detection._pyramid import projected_pyramid
from lightning_kd.methods.features._stages import check_same_maps, connectors_for, map_shape, stage_maps, total


def mgd_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    r"""Squared error between the generated maps and the teacher's.

    .. math:: \frac1B \sum_l \sum_{b,c,h,w} \big(\mathcal G_l(M_l \odot F^s_l) - F^t_l\big)^2

    with random masks :math:`M_l` over the positions and a generator :math:`\mathcal G_l` of two convolutions.

    Args:
        student_features: one generated map :math:`\mathcal G_l(M_l \odot F^s_l)` a level, ``(B, C, H, W)``.
        teacher_features: the same shapes; no gradient flows into them.

    Returns:
        Scalar: sum over levels, positions and channels, mean over the batch, at least float32.

    Raises:
        ValueError: if the numbers of levels or the shapes differ.

    Reference: Yang et al., "Masked Generative Distillation", ECCV 2022, arXiv:2205.01529.
    """
    losses = []
    for student, teacher in stage_maps(student_features, teacher_features):
        check_same_maps(student, teacher, "MGD")
        losses.append(((student - teacher) ** 2).sum() / student.shape[0])
    return total(losses)


class MGD(DistillationMethod):
    """:func:`mgd_loss` between the levels of two feature pyramids, the student's masked and sent through a generator.

    At every level a share of the positions, drawn anew in every step and for every image, is set to zero in all
    channels. The generator is a 3×3 convolution, a ReLU and another 3×3 convolution. It needs neither boxes nor a head.
    A student of another width goes through 1×1 convolutions first, one of another size is resized to the teacher's.

    Args:
        mask_ratio: share of the positions that are set to zero; the authors use 0.65 for one-stage detectors and 0.45
            for two-stage ones.
        layers: which layers to compare; by default all levels of the pyramid.
        weight: factor in the total loss; the authors use 2e-5 for one-stage detectors and 5e-7 for two-stage ones.

    Raises:
        ValueError: unless ``0 <= mask_ratio < 1``.
    """

    citation = Citation("Masked Generative Distillation", "Yang et al.", "ECCV", 2022, "2205.01529")
    aliases = ("MGDLoss", "MaskedGenerativeDistillation")

    def __init__(self, mask_ratio: float = 0.65, layers: Layers = "auto", weight: Weight = 2e-5) -> None:
        super().__init__(weight, layers)
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"mask_ratio is the share of hidden positions and must be in [0, 1), got {mask_ratio}")
        self.mask_ratio = mask_ratio
        self.connectors = nn.ModuleList()
        self.generators = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create a connector and a generator for every level."""
        teacher = self.teacher_features(context.exchange)
        self.connectors = connectors_for(
            self.student_features(context.exchange),
            teacher,
            lambda student, teacher: channel_adapter(student[0], teacher[0]),
        )
        self.generators = nn.ModuleList(_generator(map_shape(feature)[0]) for feature in teacher)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`mgd_loss`."""
        teacher = self.teacher_features(exchange)
        student = projected_pyramid(self.connectors, self.student_features(exchange), teacher)
        generated = [
            generator(self._masked(feature)) for generator, feature in zip(self.generators, student, strict=True)
        ]
        return mgd_loss(generated, teacher)

    def _masked(self, feature: Tensor) -> Tensor:
        batch, _, height, width = feature.shape
        kept = torch.rand(batch, 1, height, width, device=feature.device) >= self.mask_ratio
        return feature * kept


def _generator(channels: int) -> Connector:
    return Connector(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )
