"""Start a teacher when the student's network is called, so that on a GPU both compute at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from lightning_kd.engine.exchange import View


class Ahead:
    """Runs one teacher ahead of the student, on a CUDA stream of its own; without CUDA, merely earlier.

    Args:
        teach: runs the teacher on the arguments of the student's network.
    """

    def __init__(self, teach: Callable[[tuple[Any, ...], dict[str, Any]], View]) -> None:
        self._teach = teach
        self._stream: torch.cuda.Stream | None = None
        self._views: list[tuple[tuple[Any, ...], View]] = []

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The student's network is about to be called."""
        device = next((value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if device is None or device.type != "cuda":
            self._views.append((args, self._teach(args, kwargs)))
            return
        self._stream = self._stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            self._views.append((args, self._teach(args, kwargs)))
        apply_to_collection((args, kwargs), Tensor, _in_use_by(self._stream))

    def take(self, args: tuple[Any, ...]) -> View | None:
        """What the teacher says to a call of the student's network, or ``None`` if it was not started for it.

        Args:
            args: the very tuple that :meth:`start` was given.
        """
        for position, (given, view) in enumerate(self._views):
            if given is args:
                del self._views[position]
                self._join(view)
                return view
        return None

    def clear(self) -> None:
        """Forget what nobody asked for."""
        self._views.clear()

    def _join(self, view: View) -> None:
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        apply_to_collection((vars(view).get("output"), view.features), Tensor, _in_use_by(current))


def _in_use_by(stream: torch.cuda.Stream) -> Callable[[Tensor], Tensor]:
    """Tell the allocator that a tensor of another stream must not be reused before ``stream`` is done with it."""

    def mark(value: Tensor) -> Tensor:
        value.record_stream(stream)
        return value

    return mark
