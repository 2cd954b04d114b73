"""Which captured calls a loss depends on, for manual optimization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from lightning_kd.engine.taps import Call


def calls_behind(loss: Tensor, calls: Sequence[Call]) -> list[Call]:
    """The calls whose output is an autograd ancestor of ``loss``, in the order they were made.

    With several optimizers a step makes several forwards and backwards; only the graph tells which belong together.
    """
    # keyed by the nodes themselves: that keeps them alive, and with them their identity
    wanted = {node: call for call in calls for tensor in _tensors(call.output) if (node := tensor.grad_fn) is not None}
    found: list[Call] = []
    if not wanted or loss.grad_fn is None:
        return found
    seen: set[Any] = set()
    stack: list[Any] = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        call = wanted.get(node)
        if call is not None and not any(call is other for other in found):
            found.append(call)
            if len(found) == len(calls):
                break
        stack.extend(parent for parent, _ in node.next_functions if parent is not None)
    return [call for call in calls if any(call is other for other in found)]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dict__"):
        for item in vars(value).values():
            yield from _tensors(item)
