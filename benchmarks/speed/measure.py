"""Time and memory of two ways to compute one loss, forward and backward, side by side."""

from __future__ import annotations

import ctypes
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], tuple[Tensor, ...]]

# A shorter measurement would be one of the clock.
_SHORTEST = 0.02
_FEWEST_ROUNDS = 7

# of malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@dataclass(frozen=True)
class Timing:
    """Times of both sides.

    Attributes:
        seconds: median of the first side.
        reference_seconds: median of the second.
        ratio: median of the ratios within a round.
        low: lower quartile of the ratios.
        high: upper quartile of the ratios.
        rounds: number of rounds.
    """

    seconds: float
    reference_seconds: float
    ratio: float
    low: float
    high: float
    rounds: int


def keep_memory() -> None:
    """Have the allocator keep what is freed, so that handing pages out again is not timed.

    Otherwise the time of one loss depends on what ran before it: the C library decides by the sizes it has seen
    whether it returns memory to the system. Does nothing where that library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def step(loss: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Step:
    """Forward and backward as one call, which returns the value and the gradients."""

    def run() -> tuple[Tensor, ...]:
        value = loss()
        return value.detach(), *torch.autograd.grad(value, leaves)

    return run


def compare_times(first: Step, second: Step, seconds: float) -> Timing:
    """Time both sides in turn, in changing order, for about ``seconds``.

    The clock is that of the thread, which does not run while other processes have the core. Nothing else may compute
    for it: call ``torch.set_num_threads(1)`` before.
    """
    for run in (first, second):
        run()
    repeats = max(1, round(_SHORTEST / max(min(_time(first, 1), _time(second, 1)), 1e-6)))
    pairs: list[tuple[float, float]] = []
    started = time.thread_time()
    while len(pairs) < _FEWEST_ROUNDS or time.thread_time() - started < seconds:
        if len(pairs) % 2:
            pairs.append((_time(first, repeats), _time(second, repeats)))
        else:
            pairs.append((_time(second, repeats), _time(first, repeats))[::-1])
    low, ratio, high = statistics.quantiles([ours / theirs for ours, theirs in pairs], n=4)
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    return Timing(medians[0], medians[1], ratio, low, high, len(pairs))


def _time(run: Step, repeats: int) -> float:
    started = time.thread_time()
    for _ in range(repeats):
        run()
    return (time.thread_time() - started) / repeats


def peak_bytes(run: Step) -> int:
    """The most that is allocated at one time in a call, beside what existed before; gradients are included.

    Every allocation of PyTorch's CPU allocator counts, those inside kernels too, so the number is the same each time.
    """
    run()
    return peak_bytes_of_next_call(run)


def peak_bytes_of_next_call(run: Step) -> int:
    """The same for a call that takes too long to be made twice."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes: list[tuple[float, int]] = [
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    ]
    return max(accumulate((size for _, size in sorted(changes, key=itemgetter(0))), initial=0))
