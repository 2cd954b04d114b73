"""The stage before training in which an autoencoder learns to condense the teacher's feature."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.autoencoder import Autoencoder
from lightning_kd.connectors.maps import like_parameters


class FrozenAutoencoder(nn.Module):
    """An autoencoder that trains on the teacher's features alone and is frozen otherwise.

    Its parameters never require gradients, so that the student's optimizer leaves them alone.

    Args:
        channels: channels of the teacher's map.
        factor_channels: channels of the factor.
        learning_rate: Adam's learning rate.
        sparsity: weight of the mean absolute factor in the reconstruction loss.
    """

    def __init__(self, channels: int, factor_channels: int, learning_rate: float, sparsity: float = 0.0) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(channels, factor_channels, norm=False).requires_grad_(False)
        self.learning_rate = learning_rate
        self.sparsity = sparsity
        self._stage: tuple[Autoencoder, torch.optim.Adam] | None = None

    def learn(self, feature: Tensor) -> Tensor:
        """One step of gradient descent on the reconstruction of ``(B, C, H, W)``; returns its loss.

        The step works on a copy in at least float32, where Adam is safe; :meth:`finish` takes it over.
        """
        if self._stage is None:
            learner = copy.deepcopy(self.autoencoder).requires_grad_(True)
            learner.to(torch.promote_types(next(learner.parameters()).dtype, torch.float32))
            self._stage = learner, torch.optim.Adam(learner.parameters(), self.learning_rate)
        learner, optimizer = self._stage
        feature = like_parameters(feature.detach(), learner)
        with torch.enable_grad():
            factor = learner.encoder(feature)
            loss: Tensor = F.mse_loss(learner.decoder(factor), feature) + self.sparsity * factor.abs().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    def finish(self) -> None:
        """End the stage: the learned weights become the frozen ones."""
        if self._stage is not None:
            self.autoencoder.load_state_dict(self._stage[0].state_dict())
        self._stage = None

    def forward(self, feature: Tensor) -> Tensor:
        """The factor of the teacher's map ``(B, C, H, W)``, without a gradient."""
        with torch.no_grad():
            factor: Tensor = self.autoencoder.encoder(feature.detach())
            return factor
