"""Attention transfer: match where the networks look, not what they see there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.features._stages import matched_maps, total

Mode = Literal["code", "paper"]


def attention_transfer_loss(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor], p: float = 2, mode: Mode = "code"
) -> Tensor:
    r"""Distance between the normalised spatial attention maps, summed over the stages.

    With :math:`a(F) = \mathrm{vec}\big(\sum_c |F_c|^p\big)` and :math:`\hat a = a / \|a\|_2`,

    .. math::
        \text{code: } \sum_l \mathrm{mean}\big((\hat a^s_l - \hat a^t_l)^2\big) \qquad
        \text{paper: } \sum_l \tfrac1B \sum_b \|\hat a^s_{l,b} - \hat a^t_{l,b}\|_2

    The paper's equation has the norm; the authors' code, and with it every published CIFAR table, has the mean of
    squares, which is why its usual weight is 1000.

    Args:
        student_features: one map a stage, ``(B, C_s, H_s, W_s)`` or tokens ``(B, N, D)``.
        teacher_features: one map a stage; no gradient flows into them. The larger map is average-pooled to the
            smaller.
        p: exponent of the activations.
        mode: ``"code"`` or ``"paper"``.

    Returns:
        Scalar, at least float32.

    Raises:
        ValueError: if the numbers of stages differ, a feature has no spatial extent, or ``mode`` is unknown.

    Reference: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv:1612.03928.

    >>> import torch
    >>> feature = torch.randn(2, 8, 4, 4)
    >>> attention_transfer_loss([feature], [3 * feature]).item() < 1e-12
    True
    """
    _check_mode(mode)
    losses = []
    for student, teacher in matched_maps(student_features, teacher_features):
        difference = _attention(student, p) - _attention(teacher, p)
        per_sample = difference.square().mean(1) if mode == "code" else torch.linalg.vector_norm(difference, dim=1)
        losses.append(per_sample.mean())
    return total(losses)


def _attention(feature: Tensor, p: float) -> Tensor:
    powers = feature.square() if p == 2 else feature.abs().pow(p)
    return F.normalize(powers.mean(1).flatten(1), dim=1)


def _check_mode(mode: str) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {get_args(Mode)}, got {mode!r}")


class AttentionTransfer(DistillationMethod):
    """:func:`attention_transfer_loss` between stage outputs.

    Args:
        p: exponent of the activations.
        mode: ``"code"`` (mean of squares, as in the authors' code) or ``"paper"`` (norm, as in the equation).
        layers: which layers to compare.
        weight: factor in the total loss; 1000 is the usual one, on CIFAR-100 and ImageNet alike, for ``mode="code"``.
    """

    citation = Citation("Paying More Attention to Attention", "Zagoruyko and Komodakis", "ICLR", 2017, "1612.03928")
    aliases = ("AT", "ATLoss", "Attention")
    needs_teacher_output = False

    def __init__(self, p: float = 2, mode: Mode = "code", layers: Layers = "auto", weight: Weight = 1000.0) -> None:
        super().__init__(weight, layers)
        _check_mode(mode)
        self.p = p
        self.mode: Mode = mode

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`attention_transfer_loss`."""
        return attention_transfer_loss(
            self.student_features(exchange), self.teacher_features(exchange), self.p, self.mode
        )
