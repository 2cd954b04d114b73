"""The teacher's classifier, reused on the student's features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.methods.checks import at_least_float32, full_precision


class ReusedClassifier(nn.Module):
    """A frozen copy of the teacher's linear classifier.

    The weights are buffers: they follow the method across devices and into its state, where a student that predicts
    with them needs them, but no optimizer ever sees them and the teacher itself is not referenced.

    Args:
        teacher: the teacher's network.
        features: width of the classifier's input.
        classes: number of classes.

    Raises:
        ValueError: if the teacher has no linear layer (or 1×1 convolution) of these sizes.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, teacher: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        layer = _find(teacher, features, classes)
        self.register_buffer("weight", layer.weight.detach().flatten(1).clone())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    def forward(self, feature: Tensor) -> Tensor:
        """Map embeddings ``(B, D)`` to logits ``(B, K)`` in at least float32."""
        feature = at_least_float32(feature)
        with full_precision(feature):
            bias = None if self.bias is None else self.bias.to(feature.dtype)
            return F.linear(feature, self.weight.to(feature.dtype), bias)


def _find(teacher: nn.Module, features: int, classes: int) -> nn.Linear | nn.Conv2d:
    found: nn.Linear | nn.Conv2d | None = None
    for module in teacher.modules():
        linear = isinstance(module, nn.Linear) and (module.in_features, module.out_features) == (features, classes)
        pointwise = isinstance(module, nn.Conv2d) and module.weight.shape == (classes, features, 1, 1)
        if linear or pointwise:
            assert isinstance(module, nn.Linear | nn.Conv2d)
            found = module
    if found is None:
        raise ValueError(
            f"no linear classifier from {features} features to {classes} classes in {type(teacher).__name__}: the "
            'tapped teacher layer must be what the classifier reads; try layers="penultimate", or name the layer '
            'whose average goes into the classifier, layers={"student layer": "teacher layer"}'
        )
    return found
