"""How the networks of the protocol are initialised."""

from __future__ import annotations

from torch import nn


def init_convolutions(network: nn.Module) -> None:
    """Convolutions from a normal distribution with variance ``2 / (k² · output channels)``, and without bias.

    Batch norm starts as the identity, as PyTorch makes it.

    Reference: He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_classifier(layer: nn.Linear) -> None:
    """Weights from a normal distribution with standard deviation 0.01, and no bias."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
