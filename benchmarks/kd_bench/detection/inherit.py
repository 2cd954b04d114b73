"""Students that start with their teacher's neck and head."""

from __future__ import annotations

import torch
from torch import nn

from kd_bench.errors import UserError

_BACKBONE = "model.backbone."
# torchvision's backbones include the pyramid; mmdet's are followed by it
_PYRAMID = "model.backbone.fpn."


def inherit(student: nn.Module, teacher: nn.Module) -> None:
    """Copy from the teacher all but the backbone: feature pyramid and head.

    FGD and MGD start their students like this. The body of the backbone keeps its own weights; of the rest, what has
    the same name and shape is copied.

    Args:
        student: is changed.
        teacher: stays as it is.

    Raises:
        UserError: if nothing agrees.
    """
    given = teacher.state_dict()
    agreeing = {
        name: value
        for name, value in student.state_dict().items()
        if not is_backbone(name) and name in given and given[name].shape == value.shape
    }
    if not agreeing:
        raise UserError(
            "the student cannot inherit from its teacher: outside the backbone no layer has the same name and shape in "
            "both. Take detectors of one kind, or leave inherits out."
        )
    with torch.no_grad():
        for name, value in agreeing.items():
            value.copy_(given[name])


def is_backbone(name: str) -> bool:
    """Whether a state dict's key belongs to the body of a backbone; feature pyramids do not.

    >>> is_backbone("model.backbone.body.conv1.weight"), is_backbone("model.backbone.fpn.inner_blocks.0.0.weight")
    (True, False)
    """
    return name.startswith(_BACKBONE) and not name.startswith(_PYRAMID)
