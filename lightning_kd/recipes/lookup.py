"""Find a recipe by the method's name, the protocol and the pair."""

from __future__ import annotations

import difflib
import functools
import re

from lightning_kd import methods
from lightning_kd.recipes.cifar100 import CIFAR100
from lightning_kd.recipes.imagenet import IMAGENET
from lightning_kd.recipes.types import Protocol, Recipe


@functools.cache
def recipes(protocol: Protocol = "cifar100") -> tuple[Recipe, ...]:
    """All recipes of a protocol.

    Args:
        protocol: ``"cifar100"`` or ``"imagenet"``.

    Raises:
        ValueError: if there is no such protocol.
    """
    known = {"cifar100": CIFAR100, "imagenet": IMAGENET}
    if protocol not in known:
        raise ValueError(f"unknown protocol {protocol!r}; recipes exist for {', '.join(known)}")
    return known[protocol]


def recipe(method: str, protocol: Protocol = "cifar100", pair: str | None = None) -> Recipe:
    """The published weights of a method.

    Args:
        method: class name or alias of a method, or a combination such as ``"KD++"``.
        protocol: the benchmark.
        pair: ``"teacher->student"`` (or with ``→``), as mdistiller names the networks, for values of one pair.

    Returns:
        The recipe for the pair, where one was published; else the one that its authors use for all pairs, whose
        ``pair`` is ``None``.

    Raises:
        LookupError: if no weights are known for the method, or only for other pairs.

    >>> recipe("DKD", pair="resnet56->resnet20").terms[0].arguments["beta"]
    2.0
    """
    known = recipes(protocol)
    wanted = _canonical(method)
    found = [entry for entry in known if _key(entry.name) == _key(wanted)]
    if not found:
        names = sorted({entry.name for entry in known})
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)
        guess = f" Did you mean {' or '.join(near)}?" if near else ""
        raise LookupError(
            f"no published weights of {method!r} are known for {protocol}.{guess} Known: {', '.join(names)}"
        )
    exact = [entry for entry in found if pair is not None and entry.pair is not None and _key(entry.pair) == _key(pair)]
    general = [entry for entry in found if entry.pair is None]
    if exact or general:
        return (exact or general)[0]
    pairs = ", ".join(entry.pair for entry in found if entry.pair)
    asked = "without a pair" if pair is None else f"for the pair {pair!r}"
    raise LookupError(f"no weights of {method} were published {asked} on {protocol}; there are for {pairs}")


def _canonical(name: str) -> str:
    found = getattr(methods, name, None) if name.isidentifier() and not name.startswith("_") else None
    is_method = isinstance(found, type) and issubclass(found, methods.DistillationMethod)
    return found.__name__ if found is not None and is_method else name


def _key(text: str) -> str:
    return re.sub(r"\s+", "", text.replace("→", "->")).casefold()
