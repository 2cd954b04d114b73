"""Random geometric augmentation of image batches, on tensors, from an explicit source of randomness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RandomAffine:
    """Each image is shifted, rotated and scaled by its own random amount, and noise is added.

    Attributes:
        shift: largest shift along each axis, in pixels.
        rotation: largest rotation, in degrees.
        scale: largest relative change of size.
        noise: standard deviation of the noise, in units of the images.
        background: value outside the image.
    """

    shift: float
    rotation: float
    scale: float
    noise: float
    background: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment ``(B, C, H, W)``."""
        count, _, height, width = images.shape
        rotation, scale, down, right = (2 * torch.rand(4, count, generator=generator) - 1).unbind()
        angle = math.radians(self.rotation) * rotation
        zoom = 1 + self.scale * scale
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        # affine_grid measures shifts in half image sizes
        rows = [cos, -sin, 2 * self.shift / width * right, sin, cos, 2 * self.shift / height * down]
        matrices = torch.stack(rows, dim=-1).view(count, 2, 3)
        grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
        moved = F.grid_sample(images - self.background, grid, align_corners=False) + self.background
        return moved + self.noise * torch.randn(moved.shape, generator=generator)
