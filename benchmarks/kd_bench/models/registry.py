"""Finding networks by name.

A module of this package offers networks with :func:`register`, or by decorating functions with :func:`model`; the
function's name is then the network's name. Modules are found by themselves, no list is kept.
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
_ALIASES: dict[str, str] = {}


def model(builder: Builder) -> Builder:
    """Offer ``builder(num_classes, in_channels, **options)`` under its own name."""
    register(builder.__name__, builder)
    return builder


def register(name: str, builder: Builder, *aliases: str) -> None:
    """Offer ``builder(num_classes, in_channels, **options)``.

    Args:
        name: the network's name.
        builder: creates the network.
        *aliases: what other repositories call it.

    Raises:
        ValueError: if a name is taken.
    """
    for known in (name, *aliases):
        if known in _BUILDERS or known in _ALIASES:
            raise ValueError(f"two networks are called {known!r}: {_ALIASES.get(known, known)!r} and {name!r}")
    _BUILDERS[name] = builder
    _ALIASES.update(dict.fromkeys(aliases, name))


def create_model(name: str, *, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Create a network with fresh weights.

    Args:
        name: one of :func:`list_models` or another repository's name for it, ``"timm:<name>"`` or
            ``"torchvision:<name>"``.
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
        builder = _discover()[canonical_name(name)]
        arguments = {"num_classes": num_classes, "in_channels": in_channels}
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


def canonical_name(name: str) -> str:
    """The benchmark's own name of a network; names with a prefix are returned as they are.

    >>> canonical_name("wrn-40-2"), canonical_name("ResNet50"), canonical_name("timm:resnet50")
    ('wrn_40_2', 'cifar_resnet50', 'timm:resnet50')

    Raises:
        UserError: if there is no network of that name.
    """
    builders = _discover()
    if ":" in name or name in builders:
        return name
    if name not in _ALIASES:
        raise unknown("model", name, [*builders, *_ALIASES, "timm:<name>", "torchvision:<name>"])
    return _ALIASES[name]


def list_models() -> list[str]:
    """Names of the benchmark's own networks."""
    return sorted(_discover())


@cache
def _discover() -> dict[str, Builder]:
    package = importlib.import_module("kd_bench.models")
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(info.name)
    return _BUILDERS
