"""The convolutional autoencoder that condenses a teacher's feature, and the encoder that follows it."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_kd.connectors.stack import Connector, TolerantBatchNorm2d


def factor_encoder(channels: int, factor_channels: int, *, norm: bool) -> Connector:
    """Three 3×3 convolutions with leaky ReLUs, ``channels`` to ``factor_channels``: FT's translator.

    Args:
        channels: channels of the map that goes in.
        factor_channels: channels of the factor that comes out.
        norm: whether batch norm stands before every leaky ReLU.
    """
    widths = [(channels, channels), (channels, factor_channels), (factor_channels, factor_channels)]
    return Connector(*_layers(nn.Conv2d, widths, norm))


class Autoencoder(nn.Module):
    """FT's paraphraser: :func:`factor_encoder` and its mirror image of transposed convolutions.

    Args:
        channels: channels of the teacher's map.
        factor_channels: channels of the factor.
        norm: whether batch norm stands before every leaky ReLU.
    """

    def __init__(self, channels: int, factor_channels: int, *, norm: bool) -> None:
        super().__init__()
        widths = [(factor_channels, factor_channels), (factor_channels, channels), (channels, channels)]
        self.encoder = factor_encoder(channels, factor_channels, norm=norm)
        self.decoder = Connector(*_layers(nn.ConvTranspose2d, widths, norm))

    def forward(self, feature: Tensor) -> Tensor:
        """Reconstruct ``(B, C, H, W)``."""
        reconstruction: Tensor = self.decoder(self.encoder(feature))
        return reconstruction


def _layers(
    convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], widths: list[tuple[int, int]], norm: bool
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in widths:
        layers.append(convolution(inputs, outputs, 3, 1, 1))
        if norm:
            layers.append(TolerantBatchNorm2d(outputs))
        layers.append(nn.LeakyReLU(0.1))
    return layers
