"""Born-Again Networks: a student with its teacher's architecture, generation after generation."""

from __future__ import annotations

from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.checks import check_temperature
from lightning_kd.methods.logits.kd import kd_loss
from lightning_kd.schedules import Scheduled, value_at


class BornAgain(DistillationMethod):
    """One generation: :func:`~lightning_kd.methods.logits.kd.kd_loss` from the previous one, beside the task loss.

    The paper's "BAN with labels": both terms count alike. The loop over generations is
    :func:`~lightning_kd.methods.self_distillation.train_born_again`.

    Args:
        temperature: softmax temperature; 1 in the paper.
        weight: factor in the total loss.

    Raises:
        ValueError: if the temperature is not positive.
    """

    citation = Citation("Born-Again Neural Networks", "Furlanello et al.", "ICML", 2018, "1805.04770")
    aliases = ("BAN", "BornAgainNetworks")

    def __init__(self, temperature: Scheduled = 1.0, weight: Weight = 1.0) -> None:
        super().__init__(weight)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`~lightning_kd.methods.logits.kd.kd_loss`."""
        return kd_loss(exchange.student.logits, exchange.teacher.logits, value_at(self.temperature, exchange.progress))
