"""DKD for two-stage detectors: the classes that both second stages give the student's proposals."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_temperature
from lightning_kd.methods.detection._heads import same_regions, sampled
from lightning_kd.methods.logits.dkd import dkd_loss
from lightning_kd.schedules import Scheduled, value_at


class DKDDet(DistillationMethod):
    """:func:`~lightning_kd.functional.dkd_loss` between the second stages of two detectors.

    The student's sampled proposals, those of its own loss, are looked at by both: each network pools its own features
    there and classifies them with its own head. The softmax includes the background, which is the target class of the
    proposals that cover no object. Both detectors must be two-stage detectors of the same classes; pyramids and heads
    may differ. Boxes are not distilled.

    The paper adds it to its loss on pyramids ("DKD+ReviewKD"): ``[DKDDet(), ReviewKDDet(…)]``.

    Args:
        alpha: weight of the target-class term.
        beta: weight of the non-target term; the authors use 0.25 for detectors.
        temperature: softmax temperature.
        weight: factor in the total loss.
    """

    citation = Citation("Decoupled Knowledge Distillation", "Zhao et al.", "CVPR", 2022, "2203.08679")
    aliases = ("DecoupledKDDet", "DKDDetection")
    needs_target = True

    def __init__(
        self, alpha: float = 1.0, beta: float = 0.25, temperature: Scheduled = 1.0, weight: Weight = 1.0
    ) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def build(self, context: BuildContext) -> None:
        """Check the detectors; there is nothing to create.

        Raises:
            ValueError: if they are no two-stage detectors of the same classes.
        """
        same_regions(context.exchange, "DKDDet")

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`~lightning_kd.functional.dkd_loss`; 0 where the student sampled no proposal at all."""
        student, teacher = same_regions(exchange, "DKDDet")
        proposals, labels, _, logits = sampled(student, "DKDDet")
        if not len(labels):
            return at_least_float32(logits).sum()
        with torch.no_grad():
            _, teacher_logits = teacher.classify(proposals)
        temperature = value_at(self.temperature, exchange.progress)
        return dkd_loss(logits, teacher_logits, labels, self.alpha, self.beta, temperature)
