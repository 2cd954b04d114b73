"""Follow the teacher on the samples on which it is better than the student."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lightning_kd.callbacks.fusion.step import FusionStep, task_losses
from lightning_kd.callbacks.fusion.strategy import FusionStrategy


class WeightedSoftLabel(FusionStrategy):
    r"""Weighted soft labels (WLS) as a fusion ratio.

    .. math:: \alpha_i = 1 - \exp\!\big(-\mathrm{CE}(y_i, p^s_i) / \mathrm{CE}(y_i, p^t_i)\big)

    Close to 1 where the teacher knows the label and the student does not, close to 0 where the student is right
    already. Both cross-entropies are at temperature 1 and constants to the gradient.

    Reference: Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective",
    ICLR 2021, arXiv:2102.00650. There, the weight multiplies the distillation loss alone; as a fusion ratio, its
    complement weighs the labels.
    """

    @override
    def alpha(self, step: FusionStep) -> Tensor:
        """The ratios, ``(B,)``."""
        student = step.task.detach()
        teacher = task_losses(step.teacher_logits, step.labels)
        # a teacher without any error must not give 0/0 where the student has none either
        ratio = student / teacher.clamp_min(torch.finfo(teacher.dtype).tiny)
        return -torch.expm1(-ratio)
