"""How large the networks of a protocol are."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch

from kd_bench.data.base import ClassificationData, data_class
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.protocol import load_protocol
from kd_bench.tasks.base import count_parameters


@cache
def model_size(protocol_id: str, name: str) -> int | None:
    """Number of parameters of a classifier; ``None`` for detectors, and where a package is missing.

    Args:
        protocol_id: whose data decides the number of classes; the data itself is not needed.
        name: model name; ``None`` is the answer for any that the protocol does not have.
    """
    protocol = load_protocol(protocol_id)
    # a name is enough to make timm ask a server for a model, so others are not tried
    if name not in {model for pair in protocol.pairs.values() for model in (pair.student, pair.teacher)}:
        return None
    spec = protocol.data
    data: Any = data_class(spec)
    if not issubclass(data, ClassificationData):
        return None
    given = inspect.signature(data).parameters.get("num_classes")
    classes: Any = getattr(data, "num_classes", None) or spec.parameters.get("num_classes", given and given.default)
    # data that can have any number of classes is data of photographs
    channels = getattr(data, "image_shape", (3,))[0]
    try:
        with torch.device("meta"):
            return count_parameters(create_model(name, num_classes=classes, in_channels=channels))
    except (UserError, ImportError):
        return None
