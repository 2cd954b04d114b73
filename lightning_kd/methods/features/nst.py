"""Neuron selectivity transfer: match the distribution of the channels' selectivity patterns."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import full_precision
from lightning_kd.methods.features._stages import matched_maps, total


def nst_loss(student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    r"""Squared maximum mean discrepancy between channels, with the polynomial kernel :math:`k(x, y) = (x^\top y)^2`.

    With :math:`x_c` the :math:`L_2`-normalised map of channel :math:`c`,

    .. math::
        \sum_l \mathbb E_b\Big[\tfrac1{C_t^2}\sum_{cc'} k(t_c, t_{c'}) + \tfrac1{C_s^2}\sum_{cc'} k(s_c, s_{c'})
        - \tfrac2{C_s C_t}\sum_{cc'} k(s_c, t_{c'})\Big]

    which equals :math:`\sum_l \mathbb E_b\|T^\top T/C_t - S^\top S/C_s\|_F^2` over the positions. The smaller of the
    two Gram matrices is computed; the ``(B, C, C, HW)`` products of the straightforward form never exist.

    Args:
        student_features: one map a stage, ``(B, C_s, H_s, W_s)`` or tokens ``(B, N, D)``.
        teacher_features: one map a stage; no gradient flows into them. The larger map is average-pooled to the
            smaller.

    Returns:
        Scalar: mean over the batch, sum over the stages, at least float32.

    Raises:
        ValueError: if the numbers of stages differ, or a feature has no spatial extent.

    Reference: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
    arXiv:1707.01219.
    """
    return total([_stage(student, teacher) for student, teacher in matched_maps(student_features, teacher_features)])


def _stage(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = (F.normalize(feature.flatten(2), dim=2) for feature in (student, teacher))
    channels, positions = max(student.shape[1], teacher.shape[1]), student.shape[2]
    with full_precision(student):
        if positions <= channels:
            return (_positions_gram(student) - _positions_gram(teacher)).square().sum((1, 2)).mean()
        return _kernel(student, student) + _kernel(teacher, teacher) - 2 * _kernel(student, teacher)


def _positions_gram(feature: Tensor) -> Tensor:
    return feature.transpose(1, 2) @ feature / feature.shape[1]


def _kernel(left: Tensor, right: Tensor) -> Tensor:
    return (left @ right.transpose(1, 2)).square().mean()


class NST(DistillationMethod):
    """:func:`nst_loss` between stage outputs.

    Args:
        layers: which layers to compare.
        weight: factor in the total loss; the usual CIFAR-100 value is 50.
    """

    citation = Citation(
        "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
        "Huang and Wang",
        "arXiv",
        2017,
        "1707.01219",
    )
    aliases = ("NSTLoss", "NeuronSelectivityTransfer")
    needs_teacher_output = False

    def __init__(self, layers: Layers = "auto", weight: Weight = 50.0) -> None:
        super().__init__(weight, layers)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`nst_loss`."""
        return nst_loss(self.student_features(exchange), self.teacher_features(exchange))
