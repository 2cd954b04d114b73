"""Curves as the page stores them: few points, two characters each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_bench.results import Run

MAX_POINTS = 60
"""Epochs of a curve that are kept; the first and the last are among them."""

LEVELS = 4096
"""Heights that two characters can tell apart, which is more than a screen can show."""

_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", dtype=np.uint8)


def packed_curves(runs: Sequence[Run]) -> dict[str, Any]:
    """Validation headline and training loss of every seed.

    Args:
        runs: of one entry.

    Returns:
        ``epochs`` of each run; ``loss`` and ``validation`` as ``[lowest, highest, text]``, with the points of one run
        after the other; ``validation`` is ``None`` unless all runs have one.
    """
    losses = [run.curve.train_loss for run in runs]
    validations = [curve for run in runs if (curve := run.curve.validation) is not None]
    return {
        "epochs": [len(loss) for loss in losses],
        "loss": _pack(losses),
        "validation": _pack(validations) if len(validations) == len(runs) else None,
    }


def kept_epochs(epochs: int) -> list[int]:
    """Which epochs of a curve are kept, from 0; the page's script computes the same."""
    points = min(epochs, MAX_POINTS)
    if points == epochs:
        return list(range(epochs))
    return [(2 * point * (epochs - 1) + points - 1) // (2 * (points - 1)) for point in range(points)]


def _pack(curves: Sequence[Sequence[float]]) -> list[Any]:
    kept = [
        curve if len(curve) <= MAX_POINTS else [curve[epoch] for epoch in kept_epochs(len(curve))] for curve in curves
    ]
    values = np.concatenate([np.asarray(curve, dtype=np.float64) for curve in kept])
    low, high = float(values.min()), float(values.max())
    # halves first: the difference of two huge losses can be too large for a float
    span = high / 2 - low / 2
    shares = (values / 2 - low / 2) / span if span > 0 else np.zeros_like(values)
    levels = np.rint(shares * (LEVELS - 1)).astype(np.int64)
    text = _ALPHABET[np.stack([levels >> 6, levels & 63], axis=1)].tobytes().decode("ascii")
    return [float(f"{low:.4g}"), float(f"{high:.4g}"), text]
