"""KDCL: networks that train together learn from an ensemble of all of them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import check_temperature
from lightning_kd.methods.logits.kd import kd_loss
from lightning_kd.methods.online.base import OnlineMethod, all_logits, check_factor, cross_entropy
from lightning_kd.methods.online.ensembles import (
    Ensemble,
    general_ensemble,
    linear_ensemble,
    min_logit_ensemble,
    naive_ensemble,
)
from lightning_kd.schedules import Scheduled, value_at

Variant = Literal["naive", "linear", "min_logit", "general"]

ENSEMBLES: dict[str, Ensemble] = {
    "naive": naive_ensemble,
    "linear": linear_ensemble,
    "min_logit": min_logit_ensemble,
    "general": general_ensemble,
}
"""How the teacher is made, by the name of the variant."""


class KDCL(OnlineMethod):
    r"""Collaborative learning: :func:`~lightning_kd.methods.logits.kd.kd_loss` of every network from their ensemble.

    .. math:: L = \sum_i \mathrm{CE}(z_i, y) + \alpha\,T^2\,\mathrm{KL}\big(\mathrm{softmax}(t/T)\,\|\,
        \mathrm{softmax}(z_i/T)\big)

    The variants differ in how the ensemble's logits :math:`t` are made; see
    :mod:`lightning_kd.methods.online.ensembles`. All networks see the same inputs; the paper distorts the images
    differently for each. The defaults of ``temperature`` and ``alpha`` are ours. Under DDP every rank makes its
    ensemble from its own samples.

    Args:
        variant: ``"naive"`` (the best network for each sample), ``"linear"`` (the best convex combination),
            ``"min_logit"`` or ``"general"`` (the smallest estimated generalisation error).
        temperature: softmax temperature.
        alpha: factor of the divergences, against the cross-entropy of each network.
        weight: factor of the whole term, the peers' own losses included.
        peer_lr: learning rate of the peers; by default the student's.
        peer_weight_decay: weight decay of the peers; by default the student's.

    Raises:
        ValueError: for an unknown variant, a temperature that is not positive or a negative factor.
    """

    citation = Citation("Online Knowledge Distillation via Collaborative Learning", "Guo et al.", "CVPR", 2020)
    aliases = ("CollaborativeLearning",)

    def __init__(
        self,
        variant: Variant = "min_logit",
        temperature: Scheduled = 2.0,
        alpha: float = 1.0,
        weight: Weight = 1.0,
        peer_lr: float | None = None,
        peer_weight_decay: float | None = None,
    ) -> None:
        super().__init__(weight, peer_lr, peer_weight_decay)
        if variant not in ENSEMBLES:
            raise ValueError(f"variant must be one of {', '.join(map(repr, ENSEMBLES))}, got {variant!r}")
        check_temperature(temperature)
        check_factor("alpha", alpha)
        self.variant, self.temperature, self.alpha = variant, temperature, alpha

    def forward(self, exchange: Exchange) -> Tensor:
        """The student's divergence from the ensemble, and every peer's whole loss."""
        networks = all_logits(exchange)
        ensemble = ENSEMBLES[self.variant](networks, exchange.labels)
        total = self.alpha * kd_loss(networks[0], ensemble, value_at(self.temperature, exchange.progress))
        for peer in networks[1:]:
            own = cross_entropy(peer, exchange.labels)
            total = total + own + self.alpha * kd_loss(peer, ensemble, value_at(self.temperature, exchange.progress))
        return total
