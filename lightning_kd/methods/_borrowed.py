"""Layers of other networks that a method computes with."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import nn

L = TypeVar("L", bound=nn.Module)


class Borrowed(Generic[L]):
    """A layer that belongs to another network: no part of the method's parameters, and never copied with it."""

    def __init__(self, layer: L) -> None:
        self.layer = layer

    def __deepcopy__(self, memo: dict[int, Any]) -> Borrowed[L]:
        return self
