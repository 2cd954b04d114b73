"""What a detection network returns, whichever library its layers come from, and what methods may ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Branch = Literal["classification", "regression"]
"""One of the two towers of convolutions in a one-stage head."""

BACKGROUND = -1
"""In :attr:`Dense.assigned`: the position is a negative."""

IGNORED = -2
"""In :attr:`Dense.assigned`: the position takes no part in the loss."""


@dataclass
class DetectionOutput:
    """One call of a detection network.

    Attributes:
        pyramid: the neck's feature maps ``(N, C, H_l, W_l)``, finest first.
        image_size: ``(H, W)`` in pixels of the padded batch of images, to which boxes and maps refer.
        losses: the detector's own losses by name; empty in eval mode or without targets.
        dense: the head's side of a one-stage detector, or ``None``.
        regions: the second stage of a two-stage detector, or ``None``.
    """

    pyramid: list[Tensor]
    image_size: tuple[int, int]
    losses: dict[str, Tensor] = field(default_factory=dict)
    dense: Dense | None = None
    regions: Regions | None = None


class Dense(ABC):
    """The head of a one-stage detector in one call.

    Every list has one entry a pyramid level. ``A`` is the number of anchors a position, ``K`` the number of class
    channels, ``P`` the number of positions of a level times ``A``, in the order row, column, anchor.

    Attributes:
        kind: ``"retinanet"``, ``"fcos"``, ``"gfl"`` or ``"atss"``: decides how boxes are coded.
        class_logits: ``(N, A*K, H_l, W_l)``, for sigmoids.
        box_regression: ``(N, A*D, H_l, W_l)``; ``D`` is 4, or ``4*(reg_max+1)`` for distributions over bins.
        centerness: ``(N, A, H_l, W_l)``, or ``None``.
        anchors: ``(P, 4)`` as ``x1, y1, x2, y2`` in pixels of the padded images; squares around the points for
            detectors without anchors.
        strides: pixels between neighbouring positions.
        num_classes: ``K``.
        anchors_per_position: ``A``.
        assigned: for every image ``(sum of P,)`` over all levels: index of the ground-truth box that the task loss
            assigned to the position, :data:`BACKGROUND` or :data:`IGNORED`; ``None`` without targets.
        towers: ``towers[branch][i][level]`` is the output of the tower's convolution ``i`` (from 0) after its
            normalization and before its activation; empty unless the network's ``keep_towers`` is set.
        tower_depth: number of convolutions in each tower.
    """

    kind: str
    class_logits: list[Tensor]
    box_regression: list[Tensor]
    centerness: list[Tensor] | None
    anchors: list[Tensor]
    strides: list[int]
    num_classes: int
    anchors_per_position: int
    assigned: list[Tensor] | None
    towers: dict[Branch, list[list[Tensor]]]
    tower_depth: int

    @abstractmethod
    def finish(self, branch: Branch, done: int, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        """Send features through the rest of this network's tower and its prediction layers.

        Gradients reach ``features`` also where this network is frozen; call it with autograd on.

        Args:
            branch: which tower.
            done: how many of its convolutions ``features`` stand for; 0 for the pyramid. They are expected after the
                activation (for 0, as the pyramid is).
            features: ``(N, C, H_l, W_l)`` a level.

        Returns:
            Maps as in ``class_logits`` or ``box_regression``, and the centerness of branches that predict one.
        """

    @abstractmethod
    def decode(self, box_regression: list[Tensor]) -> list[Tensor]:
        """Turn maps as in ``box_regression`` into boxes.

        Returns:
            One tensor a level, ``(N, P, 4)`` as ``x1, y1, x2, y2`` in pixels; not clipped, differentiable.
        """


class Regions(ABC):
    """The second stage of a two-stage detector in one call.

    Attributes:
        proposals: the sampled proposals of every image, ``(R_i, 4)`` as ``x1, y1, x2, y2`` in pixels of the padded
            images; ``None`` in eval mode or without targets.
        labels: class of every sampled proposal, ``(sum of R_i,)``, or ``None``.
        embeddings: the box head's output for the sampled proposals, ``(sum of R_i, E)``, or ``None``.
        class_logits: ``(sum of R_i, K + 1)`` for the softmax with background, or ``None``.
        box_regression: the box predictor's output for the sampled proposals, or ``None``.
        background: index of the background class: 0 in torchvision, ``K`` in mmdet.
        num_classes: ``K + 1``, background included.
        label_offset: the class index is a ground-truth label plus this: 0 where both count alike (torchvision), -1
            where only the labels leave out 0 for the background, 1 where only the class indices do.
    """

    proposals: list[Tensor] | None
    labels: Tensor | None
    embeddings: Tensor | None
    class_logits: Tensor | None
    box_regression: Tensor | None
    background: int
    num_classes: int
    label_offset: int = 0

    @abstractmethod
    def classify(self, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Look at other proposals with this network's own features and heads.

        Args:
            proposals: ``(R_i, 4)`` boxes for every image; an image may have none.

        Returns:
            Embeddings ``(sum of R_i, E)`` and class logits ``(sum of R_i, K + 1)``.
        """

    @abstractmethod
    def propose(self) -> list[Tensor]:
        """This network's own proposals for every image, ``(R_i, 4)``, without gradients."""
