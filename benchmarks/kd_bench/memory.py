"""Peak memory of a stretch of code."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures while it is entered: the process's resident set on a CPU (Linux), allocated memory on a GPU.

    Args:
        device: where the computation runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._was_reset = self._over = False
        self._mb: float | None = None

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._was_reset = _reset_resident_peak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._mb, self._over = self.mb, True

    @property
    def mb(self) -> float | None:
        """The peak in MiB, so far or until the end; ``None`` where it cannot be measured."""
        if self._over:
            return self._mb
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        return _resident_peak() if self._was_reset else None


def _reset_resident_peak() -> bool:
    """Without a reset the peak would be that of everything the process ever did."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> float | None:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None
