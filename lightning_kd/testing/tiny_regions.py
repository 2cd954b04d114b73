"""The second stage of the tiny detector: features at a few points of every box, an embedding, a class, an offset."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.detection.network import Targets
from lightning_kd.detection.output import Dense, Regions
from lightning_kd.testing.tiny_head import iou

EMBEDDING_WIDTH = 6
_POINTS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))
_JITTERS = ((0.1, -0.1), (-0.3, 0.6))
_BACKGROUND = ((0.0, 0.0, 6.0, 6.0), (20.0, 2.0, 30.0, 9.0), (3.0, 22.0, 12.0, 31.0))
_PROPOSALS = 6
_LABEL_OFFSET = 1  # class 0 is the background: the boxes' classes come after it


class TinyRegionHead(nn.Module):
    """Reads a map at four points of every box; class 0 is the background.

    Args:
        in_channels: channels of the pyramid.
        num_classes: number of classes without the background.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(len(_POINTS) * in_channels, 12), nn.ReLU(), nn.Linear(12, EMBEDDING_WIDTH))
        self.classify = nn.Linear(EMBEDDING_WIDTH, num_classes + 1)
        self.locate = nn.Linear(EMBEDDING_WIDTH, 4)
        self.num_classes = num_classes + 1

    def forward(
        self, features: Tensor, proposals: list[Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings ``(R, E)``, class logits ``(R, K + 1)`` and offsets ``(R, 4)`` of all images' boxes in a row."""
        sampled = [_sample(features[position], boxes.detach(), image_size) for position, boxes in enumerate(proposals)]
        embeddings = self.embed(torch.cat(sampled).to(self.classify.weight.dtype))
        return embeddings, self.classify(embeddings), self.locate(embeddings)


class TinyRegions(Regions):
    """One call of the second stage.

    Args:
        head: the second stage.
        features: the finest map of the pyramid.
        dense: the first stage's predictions, from which proposals are made.
        image_size: ``(H, W)`` of the padded images.
        targets: the ground truth where proposals are to be sampled (training), else ``None``.

    Attributes:
        losses: the second stage's own, where proposals were sampled.
    """

    def __init__(
        self,
        head: TinyRegionHead,
        features: Tensor,
        dense: Dense,
        image_size: tuple[int, int],
        targets: Targets | None,
    ) -> None:
        self._head, self._features, self._dense, self._image_size = head, features, dense, image_size
        self.background, self.num_classes, self.label_offset = 0, head.num_classes, _LABEL_OFFSET
        self.proposals = self.labels = self.embeddings = self.class_logits = self.box_regression = None
        self.losses: dict[str, Tensor] = {}
        if targets is not None:
            proposals = [sample_proposals(target["boxes"]) for target in targets]
            labels = torch.cat([_label(boxes, target) for boxes, target in zip(proposals, targets, strict=True)])
            embeddings, logits, offsets = head(features, proposals, image_size)
            self.proposals, self.labels = proposals, labels
            self.embeddings, self.class_logits, self.box_regression = embeddings, logits, offsets
            self.losses = _losses(proposals, labels, logits, offsets, targets)

    @override
    def classify(self, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        embeddings, logits, _ = self._head(self._features, proposals, self._image_size)
        return embeddings, logits

    @override
    @torch.no_grad()
    def propose(self) -> list[Tensor]:
        height, width = self._image_size
        boxes = torch.cat(self._dense.decode(self._dense.box_regression), dim=1)
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        scores = torch.cat([value.flatten(2).amax(dim=1) for value in self._dense.class_logits], dim=1)
        return [boxes[image][kept] for image, kept in enumerate(scores.topk(_PROPOSALS, dim=1).indices)]


def sample_proposals(boxes: Tensor) -> Tensor:
    """The boxes themselves, each box moved by a tenth and by more than half of its size, and three fixed ones.

    Args:
        boxes: ground truth of an image, ``(G, 4)``.

    Returns:
        ``(3 G + 3, 4)``.
    """
    sizes = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = [boxes + sizes * boxes.new_tensor(jitter).repeat(2) for jitter in _JITTERS]
    return torch.cat([boxes, *moved, boxes.new_tensor(_BACKGROUND)])


def _losses(
    proposals: list[Tensor], labels: Tensor, logits: Tensor, offsets: Tensor, targets: Targets
) -> dict[str, Tensor]:
    """Cross-entropy of the sampled proposals, and the distance of the offsets in units of the proposals."""
    wanted = torch.cat([_offsets(boxes, target["boxes"]) for boxes, target in zip(proposals, targets, strict=True)])
    inside = labels > 0
    error = (offsets.float() - wanted).abs()[inside].sum()
    return {
        "region_classification": F.cross_entropy(logits.float(), labels),
        "region_regression": error / max(1, int(inside.sum())),
    }


def _sample(features: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Values of a map ``(C, H, W)`` at the points of every box, ``(R, 4 C)``."""
    points = boxes.new_tensor(_POINTS)
    places = boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])
    height, width = image_size
    grid = 2 * places.float() / places.new_tensor([width, height]).float() - 1
    values = F.grid_sample(features[None].float(), grid[None], padding_mode="border", align_corners=False)
    return values[0].permute(1, 2, 0).flatten(1)


def _label(proposals: Tensor, target: dict[str, Tensor]) -> Tensor:
    labels = torch.zeros(len(proposals), dtype=torch.long, device=proposals.device)
    if len(target["boxes"]):
        best, box = iou(proposals, target["boxes"]).max(dim=1)
        labels = torch.where(best >= 0.5, target["labels"][box] + _LABEL_OFFSET, labels)
    return labels


def _offsets(proposals: Tensor, boxes: Tensor) -> Tensor:
    """From each proposal's corners to those of the box that it overlaps most, in units of its size."""
    if not len(boxes):
        return torch.zeros_like(proposals)
    sizes = (proposals[:, 2:] - proposals[:, :2]).clamp(min=1).repeat(1, 2)
    return (boxes[iou(proposals, boxes).argmax(dim=1)] - proposals) / sizes
