"""CAT-KD: the student learns where the teacher looks for every class, from class activation maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import to_map
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods._borrowed import Borrowed
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32


def class_attention_transfer_loss(
    student_cams: Tensor, teacher_cams: Tensor, resolution: int = 2, normalize: bool = False
) -> Tensor:
    """Mean squared difference of average-pooled class activation maps.

    Args:
        student_cams: one map a class, ``(B, C, H, W)``.
        teacher_cams: the teacher's maps of the same classes, of any size; no gradient flows into them.
        resolution: both are average-pooled to ``resolution × resolution``.
        normalize: divide every pooled map by its L2 norm first, as the authors' configurations do between different
            architectures.

    Returns:
        Scalar: mean over samples, classes and positions, at least float32.

    Raises:
        ValueError: if the maps are not maps of equally many classes.

    Reference: Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023, arXiv:2304.12777.
    """
    if student_cams.dim() != 4 or teacher_cams.dim() != 4 or student_cams.shape[:2] != teacher_cams.shape[:2]:
        raise ValueError(
            f"expected class activation maps (B, C, H, W) of the same classes, got {tuple(student_cams.shape)} and "
            f"{tuple(teacher_cams.shape)}"
        )
    student = F.adaptive_avg_pool2d(at_least_float32(student_cams), resolution).flatten(2)
    teacher = F.adaptive_avg_pool2d(at_least_float32(teacher_cams.detach()), resolution).flatten(2)
    if normalize:
        student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return F.mse_loss(student, teacher)


def class_activation_maps(feature: Tensor, classifier: nn.Linear | nn.Conv2d) -> Tensor:
    """Apply a network's classifier at every position of its last map: ``(B, D, H, W)`` → ``(B, C, H, W)``.

    Their average over the positions is the logits of a network that pools before it classifies.
    """
    feature = at_least_float32(feature)
    weight = classifier.weight.flatten(1)[:, :, None, None].to(feature.dtype)
    bias = None if classifier.bias is None else classifier.bias.to(feature.dtype)
    with torch.autocast(feature.device.type, enabled=False):
        return F.conv2d(feature, weight, bias)


class CATKD(DistillationMethod):
    """:func:`class_attention_transfer_loss` on the last stage's maps, seen through each network's own classifier.

    Both networks must average their last map and classify it linearly, as ResNet, WRN, VGG (CIFAR) and MobileNet do.

    Args:
        resolution: size of the pooled maps: 2 between related networks on CIFAR-100, 4 for ResNet-32x4 → ShuffleNetV1
            and on ImageNet.
        normalize: normalise every map.
        layers: the last maps; ``"auto"`` takes the deepest stage.
        weight: factor in the total loss. The authors tune it by pair: 15 (ResNet-32x4 → 8x4), 0.7 (ResNet-56 → 20), 600
            with ``normalize=True`` (ResNet-32x4 → ShuffleNetV1), 0.5 (ImageNet, ResNet-34 → 18).
    """

    citation = Citation(
        "Class Attention Transfer Based Knowledge Distillation", "Guo et al.", "CVPR", 2023, "2304.12777"
    )
    aliases = ("CAT_KD", "CAT-KD", "ClassAttentionTransfer")
    needs_teacher_output = False

    def __init__(
        self, resolution: int = 2, normalize: bool = False, layers: Layers = "auto", weight: Weight = 15.0
    ) -> None:
        super().__init__(weight, layers)
        if resolution < 1:
            raise ValueError(f"resolution must be at least 1, got {resolution}")
        self.resolution, self.normalize = resolution, normalize
        self._classifiers: tuple[Borrowed[nn.Linear | nn.Conv2d], Borrowed[nn.Linear | nn.Conv2d]] | None = None

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The deepest stage."""
        return pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Find both classifiers."""
        exchange = context.exchange
        student, teacher = self.student_features(exchange)[0], self.teacher_features(exchange)[0]
        self._classifiers = (
            Borrowed(_classifier(context.student, student, exchange.student.logits)),
            Borrowed(_classifier(context.teachers[0], teacher, exchange.teacher.logits)),
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`class_attention_transfer_loss`."""
        if self._classifiers is None:
            raise RuntimeError("CATKD must be built before it is called; the engine does this before training")
        student, teacher = (borrowed.layer for borrowed in self._classifiers)
        return class_attention_transfer_loss(
            class_activation_maps(to_map(self.student_features(exchange)[0]), student),
            class_activation_maps(to_map(self.teacher_features(exchange)[0]), teacher),
            self.resolution,
            self.normalize,
        )


def _classifier(network: nn.Module, feature: Tensor, logits: Tensor) -> nn.Linear | nn.Conv2d:
    width, num_classes = to_map(feature).shape[1], logits.shape[-1]
    found: nn.Linear | nn.Conv2d | None = None
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.flatten(1).shape == (num_classes, width):
            found = module
    if found is None:
        raise ValueError(
            f"CATKD found no linear classifier from the {width} channels of the tapped map to {num_classes} classes in "
            f"{type(network).__name__}; it needs a network that averages its last map and classifies it linearly "
            "(name that map with `layers=`)"
        )
    return found
