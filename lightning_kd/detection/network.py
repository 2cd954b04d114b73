"""The call that is distilled in a detector: images that were transformed once, shared by student and teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.detection.output import DetectionOutput

Targets = list[dict[str, Tensor]]
"""For every image ``{"boxes": (G, 4) as x1, y1, x2, y2 in pixels, "labels": (G,)}``; no crowds, no empty boxes."""


class DetectionNetwork(nn.Module, ABC):
    """A detector behind one call, the same for every library.

    Maps pass through :class:`torch.nn.Identity` layers, so that taps have the same names in every detector:
    ``pyramid.0`` is the finest map of the neck, ``classification.0`` the class logits of that level,
    ``regression.0`` its box regression (one-stage detectors). ``layers="auto"`` compares the pyramid.

    Args:
        levels: number of the pyramid's levels.

    Attributes:
        levels: number of the pyramid's levels.
        keep_towers: whether :attr:`Dense.towers` is filled; methods that need it set it.
        distillation_stages: the taps that ``layers="auto"`` stands for.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.keep_towers = False
        self.pyramid = nn.ModuleList(nn.Identity() for _ in range(levels))
        self.classification = nn.ModuleList(nn.Identity() for _ in range(levels))
        self.regression = nn.ModuleList(nn.Identity() for _ in range(levels))
        self.distillation_stages = [f"pyramid.{level}" for level in range(levels)]

    @abstractmethod
    @override
    def forward(self, images: Tensor, sizes: list[tuple[int, int]], targets: Targets | None = None) -> DetectionOutput:
        """Run the detector.

        Args:
            images: normalized and padded, ``(N, 3, H, W)``.
            sizes: ``(height, width)`` of every image without its padding.
            targets: ground truth in pixels of ``images``; in training mode the output has losses then.
        """

    @abstractmethod
    def detect(self, output: DetectionOutput, sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Detections of every image: ``boxes`` (D, 4) in pixels of the transformed image, ``scores``, ``labels``.

        Args:
            output: of a call in eval mode.
            sizes: ``(height, width)`` of every image without its padding.
        """


def pass_through(layers: nn.ModuleList, maps: Sequence[Tensor]) -> list[Tensor]:
    """Send one map a level through the identity layers that are tapped.

    Raises:
        ValueError: if there are more or fewer maps than levels.
    """
    if len(layers) != len(maps):
        raise ValueError(f"expected one map for each of {len(layers)} pyramid levels, got {len(maps)}")
    return [layer(value) for layer, value in zip(layers, maps, strict=True)]


def taps(*, levels: int | Sequence[int], part: str = "pyramid") -> dict[str, str]:
    """``layers`` of a method that compares the same levels of student and teacher.

    Args:
        levels: the number of levels from the finest on, or their indices.
        part: ``"pyramid"``, ``"classification"`` or ``"regression"``.

    >>> taps(levels=2)
    {'pyramid.0': 'pyramid.0', 'pyramid.1': 'pyramid.1'}
    """
    chosen: Any = range(levels) if isinstance(levels, int) else levels
    return {f"{part}.{level}": f"{part}.{level}" for level in chosen}
