"""Whether the samples of a data set really come out the same when they are drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_kd.data.replay import Replayed, apply
from lightning_kd.data.replayable import ReplayableDataset
from lightning_kd.data.seeding import seed_of, seeded
from lightning_kd.engine.rng import isolated_rng


class ReplayError(RuntimeError):
    """A data set whose samples cannot be drawn again."""


def check_replay(dataset: ReplayableDataset, samples: int = 8) -> None:
    """Draw a few samples twice, in opposite orders and from different random states, and compare.

    Args:
        dataset: the data set.
        samples: how many, spread over data set and views.

    Raises:
        ReplayError: if one differs; the message names the transform where it can be told.
    """
    count = min(samples, len(dataset))
    keys = [(number * len(dataset) // count, number % dataset.views) for number in range(count)]
    with isolated_rng():
        first = [dataset.draw(*key) for key in keys]
        torch.rand(17)
        again = [dataset.draw(*key) for key in reversed(keys)][::-1]
        for key, one, other in zip(keys, first, again, strict=True):
            if not same(one, other):
                raise ReplayError(
                    f"sample {key[0]} in view {key[1]} comes out differently when it is drawn again, because of "
                    f"{_culprit(dataset, *key)}: it draws from something else than the random states of PyTorch, NumPy "
                    "and Python. Give it a `set_random_seed(seed)` method, or let it draw from one of those."
                )


def same(one: Any, other: Any) -> bool:
    """Whether two samples are equal in every bit; values that cannot be compared count as equal."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "tobytes"):  # an array or an image
        return bool(one.tobytes() == other.tobytes())
    plain = isinstance(one, str | bytes | bool | int | float | complex)
    return type(one) is type(other) and (not plain or bool(one == other or one != one))


def _culprit(dataset: ReplayableDataset, index: int, view: int) -> str:
    while not isinstance(dataset, Replayed):
        inner = getattr(dataset, "dataset", None)
        if not isinstance(inner, ReplayableDataset):
            return f"the data set {type(dataset).__name__}"
        dataset = inner
    steps = getattr(dataset.transform, "transforms", None)
    seed = seed_of(dataset.seed, view, index)
    if not _repeats(dataset, [], index, seed) or dataset.transform is None:
        return f"the data set {type(dataset.dataset).__name__} itself, or a transform inside it"
    for count in range(1, len(steps or []) + 1):
        assert steps is not None
        if not _repeats(dataset, list(steps[:count]), index, seed):
            return f"the transform {type(steps[count - 1]).__name__}"
    return f"the transform {_name(dataset.transform)}"


def _repeats(dataset: Replayed, steps: list[Any], index: int, seed: int) -> bool:
    drawn = []
    for _ in range(3):
        with seeded(seed):
            sample = dataset.dataset[index]
            for step in steps:
                sample = apply(step, sample)
            drawn.append(sample)
    return all(same(drawn[0], other) for other in drawn[1:])


def _name(transform: Any) -> str:
    return getattr(transform, "__qualname__", None) or type(transform).__name__
