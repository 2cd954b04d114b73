"""What a training costs, over all of its parts if it was interrupted."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import torch

from kd_bench.memory import PeakMemory


class Effort:
    """Measures wall time and peak memory while it is entered.

    Args:
        device: where the computation runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._memory = PeakMemory(device)
        self._start = self._stop = 0.0
        self._earlier: tuple[float, float | None] = (0.0, None)

    def __enter__(self) -> Self:
        self._memory.__enter__()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop = time.perf_counter()
        self._memory.__exit__(kind, error, traceback)

    def add(self, seconds: float, peak_memory_mb: float | None) -> None:
        """Count an earlier part of the training, too."""
        self._earlier = seconds, peak_memory_mb

    @property
    def seconds(self) -> float:
        """Wall time, up to now or the end."""
        return self._earlier[0] + (self._stop or time.perf_counter()) - self._start

    @property
    def peak_memory_mb(self) -> float | None:
        """Peak memory in MiB, up to now or the end; ``None`` where it cannot be measured."""
        return max((peak for peak in (self._earlier[1], self._memory.mb) if peak is not None), default=None)
