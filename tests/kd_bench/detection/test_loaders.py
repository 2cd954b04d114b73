from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from kd_bench.detection.loaders import GroupedDraws
from kd_bench.errors import UserError


def batches(draws: GroupedDraws) -> list[list[int]]:
    return [draw.indices[draw.own].tolist() for draw in draws]


def some_ratios(size: int = 57) -> np.ndarray:
    return np.exp2(np.random.default_rng(0).uniform(-1.5, 1.5, size))


def plain_batches(order: list[int], groups: list[int], size: int) -> list[list[int]]:
    """The rule, image by image."""
    waiting: dict[int, list[int]] = {group: [] for group in groups}
    seen: dict[int, list[int]] = {group: [] for group in groups}
    found = []
    for index in order:
        waiting[groups[index]].append(index)
        seen[groups[index]].append(index)
        if len(waiting[groups[index]]) == size:
            found.append(waiting[groups[index]])
            waiting[groups[index]] = []
    rests = [(group, rest) for group, rest in sorted(waiting.items()) if rest]
    for group, rest in sorted(rests, key=lambda item: -len(item[1])):
        if len(found) == len(order) // size:
            break
        found.append([*rest, *(seen[group] * size)[: size - len(rest)]])
    return found


@pytest.mark.parametrize("size", [1, 4, 8, 50])
def test_batches_follow_the_rule(size: int) -> None:
    ratios = some_ratios()
    draws = GroupedDraws(ratios, size, seed=3)
    draws.set_epoch(2)
    limits = [0.5, 2 ** (-2 / 3), 2 ** (-1 / 3), 1, 2 ** (1 / 3), 2 ** (2 / 3), 2]
    groups = [sum(ratio >= limit for limit in limits) for ratio in ratios]
    order = np.random.default_rng([3, 2]).permutation(len(ratios)).tolist()
    assert batches(draws) == plain_batches(order, groups, size)
    assert len(batches(draws)) == len(draws) == 57 // size


def test_a_batch_has_one_group_and_an_epoch_few_images_twice() -> None:
    ratios = some_ratios(400)
    draws = GroupedDraws(ratios, 8, seed=0)
    for batch in batches(draws):
        assert (
            max(ratios[batch]) / min(ratios[batch]) < 2 ** (1 / 3)
            or max(ratios[batch]) < 0.5
            or min(ratios[batch]) >= 2
        )
    counts = Counter(index for batch in batches(draws) for index in batch)
    # at most a batch of each of the eight groups is left out or completed
    assert len(counts) >= 400 - 8 * 7
    assert sum(counts.values()) == 400


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first, same, other = (GroupedDraws(some_ratios(), 4, seed) for seed in (0, 0, 1))
    np.random.seed(5)
    assert batches(first) == batches(first) == batches(same) != batches(other)
    same.set_epoch(1)
    assert batches(first) != batches(same)


def test_without_groups_every_image_comes_once() -> None:
    draws = GroupedDraws(some_ratios(56), 4, 0, factor=0)
    assert sorted(index for batch in batches(draws) for index in batch) == list(range(56))


def test_ranks_share_each_batch() -> None:
    whole = GroupedDraws(some_ratios(), 8, 0)
    parts = [GroupedDraws(some_ratios(), 8, 0) for _ in range(2)]
    for rank, part in enumerate(parts):
        part.set_ranks(rank, 2)
    assert batches(whole) == [first + second for first, second in zip(*map(batches, parts), strict=True)]
    with pytest.raises(UserError, match="cannot be divided equally among 3"):
        whole.set_ranks(0, 3)


def test_a_batch_needs_enough_images() -> None:
    with pytest.raises(UserError, match="batch_size 60 exceeds the 57 training images"):
        GroupedDraws(some_ratios(), 60, 0)


def test_pickled_draws_are_the_same() -> None:
    import pickle

    first: Any = next(iter(GroupedDraws(some_ratios(), 4, 0)))
    again = pickle.loads(pickle.dumps(first))
    assert again.indices.tolist() == first.indices.tolist()
    assert again.epoch == first.epoch
