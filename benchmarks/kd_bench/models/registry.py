"""Finding networks by name.

A module of this package offers networks by decorating functions with :func:`model`; the function's name is the
network's name. Modules are found by themselves, no list is kept.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn

from kd_bench.errors import UserError
from kd_bench.models import external
from kd_bench.names import unknown

Builder = Callable[..., nn.Module]

_BUILDERS: dict[str, Builder] = {}


def model(builder: Builder) -> Builder:
    """Offer ``builder(num_classes, in_channels, **options)`` under its own name."""
    name = builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"two networks are called {name!r}: in {_BUILDERS[name].__module__} and {builder.__module__}")
    _BUILDERS[name] = builder
    return builder


def create_model(name: str, *, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Create a network with fresh weights.

    Args:
        name: one of :func:`list_models`, ``"timm:<name>"`` or ``"torchvision:<name>"``.
        num_classes: width of the logits.
        in_channels: channels of the images.
        **options: passed on to the network, for example ``pretrained=True`` (timm) or ``weights="DEFAULT"``
            (torchvision, whose classifier then has to keep its 1,000 classes).

    Returns:
        The network, in training mode.

    Raises:
        UserError: if there is no network of that name (the nearest are listed), the library behind the prefix is not
            installed, or the network does not take the options.
    """
    prefix, colon, rest = name.partition(":")
    if not colon:
        builders = _discover()
        if name not in builders:
            raise unknown("model", name, [*builders, "timm:<name>", "torchvision:<name>"])
        builder, arguments = builders[name], {"num_classes": num_classes, "in_channels": in_channels}
    elif prefix == "timm":
        builder, arguments = external.timm_builder(rest), {"num_classes": num_classes, "in_chans": in_channels}
    elif prefix == "torchvision":
        if in_channels != 3:
            raise UserError(f"{name} takes images with 3 channels, the data has {in_channels}; choose another model.")
        builder, arguments = external.torchvision_builder(rest), {"num_classes": num_classes}
    else:
        raise unknown("model prefix", prefix, ["timm", "torchvision"])
    try:
        return builder(**arguments, **options)
    except TypeError as error:
        raise UserError(f"cannot create the model {name!r} with the options {sorted(options)}: {error}") from error


def list_models() -> list[str]:
    """Names of the benchmark's own networks."""
    return sorted(_discover())


@cache
def _discover() -> dict[str, Builder]:
    package = importlib.import_module("kd_bench.models")
    for info in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{info.name}")
    return _BUILDERS
