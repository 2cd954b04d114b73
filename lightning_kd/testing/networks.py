"""Tiny networks to try a method on: a convolutional classifier and a token model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NUM_CLASSES = 5
VOCABULARY = 11
IMAGE_SIZE = 16


class TinyCNN(nn.Module):
    """Three stages with batch normalisation, ``layer1`` to ``layer3``, then pooling and ``fc``.

    Args:
        widths: channels of the stages.
        stem_stride: stride of the first convolution; every later stage halves the map.
        num_classes: number of classes.
    """

    def __init__(self, widths: Sequence[int] = (8, 12, 16), stem_stride: int = 2, num_classes: int = NUM_CLASSES):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = _stage(widths[0], widths[0], 1)
        self.layer2 = _stage(widths[0], widths[1], 2)
        self.layer3 = _stage(widths[1], widths[2], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to logits ``(B, C)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class TinyTokens(nn.Module):
    """An embedding, two residual blocks and a head over the vocabulary.

    Args:
        width: width of the hidden states.
        vocabulary: number of tokens.
    """

    def __init__(self, width: int = 16, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, T)`` to logits ``(B, T, V)``."""
        hidden = self.embed(tokens)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


def image_batch(batch_size: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random images and labels: ``(B, 3, H, W)`` and ``(B,)``."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    return images, torch.arange(batch_size) % NUM_CLASSES


def token_batch(batch_size: int = 8, length: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random tokens and next-token labels, ``(B, T)`` each; the last label of every row is ignored (-100)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (batch_size, length + 1), generator=generator)
    labels = tokens[:, 1:].clone()
    labels[:, -1] = -100
    return tokens[:, :-1], labels
