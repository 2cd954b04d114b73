"""Deep Mutual Learning: networks that train together, each learning from the predictions of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import check_temperature
from lightning_kd.methods.logits.kd import kd_loss
from lightning_kd.methods.online.base import OnlineMethod, all_logits, check_factor, cross_entropy
from lightning_kd.schedules import Scheduled, value_at


def mutual_learning_loss(student_logits: Tensor, peer_logits: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
    r"""What one network learns from ``K`` others.

    .. math:: \frac{T^2}{K} \sum_k \mathrm{KL}\big(\mathrm{softmax}(z_k/T)\,\|\,\mathrm{softmax}(z/T)\big)

    Args:
        student_logits: logits of the network that learns, ``(B, C)``.
        peer_logits: logits of the others, ``(B, C)`` each; no gradient flows into them.
        temperature: softmax temperature ``T``; the loss carries ``T**2``.

    Returns:
        Scalar: mean over the batch and the others, at least float32.

    Raises:
        ValueError: if there is no peer, shapes differ or the temperature is not positive.

    Reference: Zhang et al., "Deep Mutual Learning", CVPR 2018, arXiv:1706.00384.

    >>> logits = torch.randn(8, 10)
    >>> mutual_learning_loss(logits, [logits, logits]).item()
    0.0
    """
    if not peer_logits:
        raise ValueError("mutual learning needs the logits of at least one peer, got an empty list")
    return torch.stack([kd_loss(student_logits, peer, temperature) for peer in peer_logits]).mean()


class DML(OnlineMethod):
    """Deep Mutual Learning: :func:`mutual_learning_loss` for the student and for every peer.

    Every network learns from the labels and from all the others. The update is simultaneous, all networks see each
    other's predictions from before the step; the paper updates one network after the other.

    Args:
        temperature: softmax temperature; 1 in the paper.
        alpha: factor of the divergences, against the cross-entropy of each network.
        weight: factor of the whole term, the peers' own losses included.
        peer_lr: learning rate of the peers; by default the student's.
        peer_weight_decay: weight decay of the peers; by default the student's.

    Raises:
        ValueError: if the temperature is not positive or a factor is negative.
    """

    citation = Citation("Deep Mutual Learning", "Zhang et al.", "CVPR", 2018, "1706.00384")
    aliases = ("MutualLearning", "DeepMutualLearning")

    def __init__(
        self,
        temperature: Scheduled = 1.0,
        alpha: float = 1.0,
        weight: Weight = 1.0,
        peer_lr: float | None = None,
        peer_weight_decay: float | None = None,
    ) -> None:
        super().__init__(weight, peer_lr, peer_weight_decay)
        check_temperature(temperature)
        check_factor("alpha", alpha)
        self.temperature, self.alpha = temperature, alpha

    def forward(self, exchange: Exchange) -> Tensor:
        """The student's divergence from the peers, and every peer's whole loss."""
        networks = all_logits(exchange)
        total = self.alpha * mutual_learning_loss(
            networks[0], networks[1:], value_at(self.temperature, exchange.progress)
        )
        for position, peer in enumerate(networks[1:], start=1):
            others = networks[:position] + networks[position + 1 :]
            own = cross_entropy(peer, exchange.labels)
            total = (
                total
                + own
                + self.alpha * mutual_learning_loss(peer, others, value_at(self.temperature, exchange.progress))
            )
        return total
