"""Distillation methods, one file each: the loss as a pure function, then the class that binds it to an exchange.

Families are sub-packages: ``logits``, ``features``, ``relations``, ``online``,
``self_distillation``, ``detection``, ``language``. A new file is found by
:func:`discover`; no list is kept by hand.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from lightning_kd.methods.base import Citation, DistillationMethod

if TYPE_CHECKING:
    from lightning_kd.methods.detection import *
    from lightning_kd.methods.features import *
    from lightning_kd.methods.language import *
    from lightning_kd.methods.logits import *
    from lightning_kd.methods.online import *
    from lightning_kd.methods.relations import *
    from lightning_kd.methods.self_distillation import *


@functools.cache
def discover() -> dict[str, type[DistillationMethod]]:
    """Every method of the library by class name, in alphabetical order."""
    found: dict[str, type[DistillationMethod]] = {}
    for info in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, DistillationMethod)
                and value.__module__ == info.name
                and value.forward is not DistillationMethod.forward
                and not value.__name__.startswith("_")
            ):
                found[value.__name__] = value
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def family(method: type[DistillationMethod]) -> str:
    """The family of a method, the sub-package it lives in; ``"custom"`` for a method from outside the library."""
    prefix = f"{__name__}."
    return method.__module__.removeprefix(prefix).split(".")[0] if method.__module__.startswith(prefix) else "custom"


def __getattr__(name: str) -> Any:
    """Find a method by its class name or by a name that another repository uses."""
    if name.startswith("_"):
        raise AttributeError(name)
    methods = discover()
    for method in methods.values():
        if name == method.__name__ or name in method.aliases:
            return method
    raise AttributeError(f"module {__name__!r} has no method {name!r}; the methods are {', '.join(methods)}")


def __dir__() -> list[str]:
    return [*globals(), *discover()]


__all__ = ["Citation", "DistillationMethod", "discover", "family"]
