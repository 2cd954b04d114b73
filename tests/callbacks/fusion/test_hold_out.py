from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Subset, TensorDataset, WeightedRandomSampler

from lightning_kd.callbacks.fusion import hold_out
from lightning_kd.callbacks.fusion.hold_out import labels_of, share_samples
from lightning_kd.callbacks.fusion.training_split import split_loader
from lightning_kd.data import WithIndex


def dataset(*counts: int) -> TensorDataset:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return TensorDataset(torch.arange(len(labels)).float()[:, None], labels)


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(10))


def test_stratified_disjoint_and_complete() -> None:
    state = torch.get_rng_state()
    data = dataset(40, 25, 35)
    train, held_out = hold_out(data, 0.2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted([*train.indices, *held_out.indices]) == list(range(100))
    labels = data.tensors[1][torch.tensor(held_out.indices)]
    assert labels.bincount().tolist() == [8, 5, 7]
    assert hold_out(data, 0.2, seed=1)[1].indices == held_out.indices
    assert hold_out(data, 0.2, seed=2)[1].indices != held_out.indices


def test_remainders_and_small_classes() -> None:
    train, held_out = hold_out(dataset(1, 7, 8), 0.5)
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate((1, 7, 8))])
    assert len(held_out) == 8
    assert set(labels[torch.tensor(train.indices)].tolist()) == {0, 1, 2}


def test_without_labels_and_with_given_ones() -> None:
    plain = [object() for _ in range(10)]
    assert len(hold_out(plain, 0.3)[1]) == 3  # type: ignore[arg-type]
    _, held_out = hold_out(plain, 0.2, labels=[0] * 5 + [1] * 5)  # type: ignore[arg-type]
    assert [index // 5 for index in held_out.indices] == [0, 1]


def test_labels_are_found() -> None:
    data = dataset(2, 3)
    assert labels_of(data).tolist() == [0, 0, 1, 1, 1]  # type: ignore[union-attr]
    assert labels_of(WithIndex(Subset(data, [4, 0]))) is None
    assert labels_of(Subset(WithIndex(data), [4, 0])).tolist() == [1, 0]  # type: ignore[union-attr]

    class Vision(list[int]):
        targets = (3, 1, 2)

    assert labels_of(Vision([0, 0, 0])).tolist() == [3, 1, 2]  # type: ignore[union-attr]
    assert labels_of(TensorDataset(torch.ones(3), torch.ones(3))) is None


def test_refusals() -> None:
    with pytest.raises(TypeError, match="map-style"):
        hold_out(Stream())
    with pytest.raises(ValueError, match=r"one label for each of the 5 samples, got shape \(2,\)"):
        hold_out(dataset(5), labels=[0, 1])
    for fraction in (0.0, 0.01, 1.0):
        with pytest.raises(ValueError, match="leave samples on both sides"):
            hold_out(dataset(5), fraction)


def test_shared_samples_are_seen_through_subsets() -> None:
    data = dataset(10)
    train, held_out = hold_out(data, 0.3)
    assert not share_samples(train, held_out)
    assert share_samples(data, held_out)
    assert share_samples(WithIndex(train), Subset(train, [0]))
    assert not share_samples(Subset(train, [1]), Subset(train, [0]))
    assert not share_samples(dataset(10), held_out)


def test_a_plain_dataloader_is_split() -> None:
    generator = torch.Generator()
    loader = DataLoader(dataset(20, 20), batch_size=4, shuffle=True, drop_last=True, generator=generator)
    train, held_out = split_loader(loader, 0.1, seed=0)
    assert isinstance(train.sampler, RandomSampler)
    assert train.generator is train.sampler.generator is generator
    assert (train.batch_size, train.drop_last, train.collate_fn) == (4, True, loader.collate_fn)
    seen = {int(x) for batch, _ in train for x in batch}
    held = {int(x) for batch, _ in held_out for x in batch}
    assert len(seen) == 36
    assert len(held) == 4
    assert seen.isdisjoint(held)
    ordered, _ = split_loader(DataLoader(dataset(20, 20), batch_size=4), 0.1, seed=0)
    values = [int(x) for batch, _ in ordered for x in batch]
    assert values == sorted(values)


class Custom(DataLoader[Any]):
    pass


@pytest.mark.parametrize(
    ("loader", "reason"),
    [
        (Custom(dataset(9)), "a Custom instead of a plain DataLoader"),
        ({"a": DataLoader(dataset(9))}, "a dict instead"),
        (DataLoader(Stream()), "iterable-style"),
        (DataLoader(WithIndex(dataset(9))), "WithIndex"),
        (DataLoader(dataset(9), batch_size=None), "samples that are batches"),
        (DataLoader(dataset(9), sampler=WeightedRandomSampler([1.0] * 9, 9)), "the sampler WeightedRandomSampler"),
        (DataLoader(dataset(9), sampler=RandomSampler(range(9), num_samples=4)), "does not visit every sample once"),
        (DataLoader(dataset(9), sampler=RandomSampler(range(9), replacement=True)), "does not visit every sample"),
        (DataLoader(dataset(9), batch_sampler=[[0, 1]]), "a batch sampler of its own"),
    ],
)
def test_unsafe_splits_are_refused(loader: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){reason}.*hold_out\\(dataset\\).*validation="):
        split_loader(loader, 0.1, seed=0)
