import pickle

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from lightning_kd.data import Indexed, IndexedCollate, WithIndex


class Labelled(TensorDataset):
    classes = ("cat", "dog")


def dataset():
    return Labelled(torch.arange(10.0).unsqueeze(1), torch.arange(10) % 2)


def test_batches_carry_their_indices():
    batches = list(DataLoader(WithIndex(dataset()), batch_size=4))
    assert all(isinstance(batch, Indexed) for batch in batches)
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(10))
    (images, labels), index = batches[1]
    assert images.flatten().tolist() == index.tolist()
    assert labels.tolist() == (index % 2).tolist()


def test_a_subset_counts_from_zero():
    part = WithIndex(Subset(dataset(), [7, 3]))
    assert [item.index for item in part] == [0, 1]
    assert part[0].sample[0].item() == 7
    assert part[-1].index == 1


def test_attributes_are_those_of_the_data_set():
    wrapped = WithIndex(dataset())
    assert wrapped.classes == ("cat", "dog")
    assert len(wrapped) == 10
    with pytest.raises(AttributeError):
        _ = wrapped.missing
    assert "Labelled" in repr(wrapped)


def test_pickles_for_workers():
    restored = pickle.loads(pickle.dumps(WithIndex(dataset())))
    assert restored[3].index == 3
    assert restored.classes == ("cat", "dog")


def test_an_own_collate_function():
    loader = DataLoader(WithIndex(["a", "b", "c"]), batch_size=2, collate_fn=IndexedCollate("".join))
    assert [(batch.sample, batch.index.tolist()) for batch in loader] == [("ab", [0, 1]), ("c", [2])]


def test_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield 1

    with pytest.raises(TypeError, match="map-style"):
        WithIndex(Stream())
    with pytest.raises(TypeError, match="map-style"):
        WithIndex(iter([1]))
