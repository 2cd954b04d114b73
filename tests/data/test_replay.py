"""Random transforms that repeat bit for bit, wherever and whenever they run."""

import os
import pickle
import random

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torchvision import transforms as v1
from torchvision.transforms import v2

from lightning_kd.data import Indexed, IndexedCollate, IndexedDraw, Replayed, ReplayError, check_replay
from lightning_kd.data.replay_check import same


def photographs(count=6):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 24, 20, 3), dtype=np.uint8)
    return [(Image.fromarray(each), number % 3) for number, each in enumerate(pixels)]


def plain_python(image):
    image = np.asarray(image).astype(np.float32) + np.random.normal(size=(24, 20, 3))
    return torch.from_numpy(image) * random.random() + torch.rand(())


TRANSFORMS = {
    "v1": lambda: v1.Compose([v1.RandomResizedCrop(16), v1.RandAugment(), v1.ToTensor(), v1.RandomErasing()]),
    "v1 jitter": lambda: v1.Compose([v1.ColorJitter(0.4, 0.4, 0.4, 0.1), v1.RandomHorizontalFlip(), v1.ToTensor()]),
    "v2": lambda: v2.Compose([v2.RandomResizedCrop(16), v2.RandAugment(), v2.ToImage(), v2.ToDtype(torch.float32)]),
    "v2 choice": lambda: v2.Compose([v2.RandomChoice([v2.AutoAugment(), v2.TrivialAugmentWide()]), v2.PILToTensor()]),
    "plain Python": lambda: plain_python,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_draws_repeat_and_differ_between_views_and_samples(name):
    data = Replayed(photographs(), TRANSFORMS[name](), seed=3, views=4)
    first = {(index, view): data.draw(index, view)[0] for index in range(len(data)) for view in range(4)}
    torch.rand(5), np.random.rand(3), random.random()
    other = Replayed(photographs(), TRANSFORMS[name](), seed=3, views=4)
    for index, view in reversed(first):
        assert torch.equal(other.draw(index, view)[0], first[index, view])
    assert len({first[0, view].numpy().tobytes() for view in range(4)}) > 1
    another_seed = Replayed(photographs(), TRANSFORMS[name](), seed=4, views=4)
    assert any(not same(another_seed.draw(index, 0)[0], first[index, 0]) for index in range(len(data)))
    check_replay(data)


def test_random_states_are_given_back_also_after_an_error():
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    def failing(image):
        torch.rand(1), np.random.rand(), random.random()
        raise KeyError("broken image")

    before = states()
    Replayed(photographs(), plain_python).draw(0, 0)
    assert states() == before
    with pytest.raises(KeyError):
        Replayed(photographs(), failing).draw(0, 0)
    assert states() == before


def test_a_transform_inside_the_data_set_repeats():
    class Own(TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0] + torch.randn(2)

    data = Replayed(Own(torch.zeros(4, 2)), views=2)
    assert torch.equal(data.draw(1, 1), data.draw(1, 1))
    assert not torch.equal(data.draw(1, 1), data.draw(1, 0))


class OwnGenerator:
    """As albumentations has it: a generator of its own that can be seeded."""

    def __init__(self):
        self.random = random.Random()

    def set_random_seed(self, seed):
        self.random = random.Random(seed)

    def __call__(self, image):
        return torch.tensor(self.random.random())


class Unseeded:
    """A generator of its own that nobody can seed."""

    def __init__(self):
        self.random = random.Random()

    def __call__(self, image):
        return torch.tensor(self.random.random())


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: v1.Compose([t]), lambda t: v1.Compose([v1.Compose([t])])])
def test_own_generators_are_seeded(wrap):
    data = Replayed(photographs(), wrap(OwnGenerator()), views=2)
    assert data.draw(2, 1)[0] == data.draw(2, 1)[0] != data.draw(2, 0)[0]
    check_replay(data)


def test_albumentations():
    albumentations = pytest.importorskip("albumentations")
    steps = [albumentations.RandomResizedCrop((16, 16)), albumentations.RandomBrightnessContrast(p=1)]
    arrays = [(np.asarray(image), label) for image, label in photographs()]
    data = Replayed(arrays, albumentations.Compose(steps), views=3)
    again = Replayed(arrays, albumentations.Compose(steps), views=3)
    assert data.fingerprint == again.fingerprint
    for key in ((0, 0), (3, 2), (1, 1)):
        assert np.array_equal(data.draw(*key)[0], again.draw(*key)[0])
    check_replay(data)


def test_what_cannot_be_replayed_is_named():
    with pytest.raises(ReplayError, match="because of the transform Unseeded"):
        check_replay(Replayed(photographs(), v1.Compose([v1.RandomHorizontalFlip(), Unseeded(), torch.nn.Identity()])))
    with pytest.raises(ReplayError, match="because of the transform Unseeded"):
        check_replay(Replayed(photographs(), Unseeded()))

    class Entropy(TensorDataset):
        def __getitem__(self, index):
            return os.urandom(8)

    with pytest.raises(ReplayError, match="data set Entropy itself"):
        check_replay(Replayed(Entropy(torch.zeros(3))))

    class Counting:
        count = 0

        def __call__(self, image):
            Counting.count += 1
            return image * Counting.count

    with pytest.raises(ReplayError, match="Counting"):
        check_replay(Replayed(TensorDataset(torch.ones(5), torch.zeros(5)), Counting()))


def test_views_follow_the_epoch():
    data = Replayed(TensorDataset(torch.zeros(3, 2), torch.arange(3)), lambda x: x + torch.randn(2), views=2)
    seen = []
    for epoch in range(5):
        data.set_epoch(epoch)
        item = data[1]
        assert isinstance(item, Indexed)
        assert item.key == f"{epoch % 2}.1"
        seen.append(item.sample[0])
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert data[-1].index == 2


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_the_same(persistent):
    data = Replayed(photographs(8), TRANSFORMS["v2"](), views=3)
    loader = DataLoader(data, batch_size=3, num_workers=2, persistent_workers=persistent)
    for epoch in (0, 1, 5):
        data.set_epoch(epoch)
        batches = list(loader)
        assert all(isinstance(batch, IndexedDraw) for batch in batches)
        keys = [key for batch in batches for key in batch.key]
        assert keys == [f"{epoch % 3}.{index}" for index in range(8)]
        images = torch.cat([batch.sample[0] for batch in batches])
        assert torch.equal(images, torch.stack([data.draw(index, epoch % 3)[0] for index in range(8)]))


def test_an_own_collate_function_keeps_the_keys():
    data = Replayed(["a", "b", "c"])
    batches = list(DataLoader(data, batch_size=2, collate_fn=IndexedCollate("".join)))
    assert [(batch.sample, batch.index.tolist(), batch.key) for batch in batches] == [
        ("ab", [0, 1], ["0.0", "0.1"]),
        ("c", [2], ["0.2"]),
    ]


def test_samples_that_are_no_tuple_are_transformed_whole():
    assert Replayed(["a"], str.upper)[0].sample == "A"
    assert Replayed([["a", 1]], str.upper)[0].sample == ["A", 1]
    assert Replayed([{"a": 1}], lambda d: {**d, "b": 2})[0].sample == {"a": 1, "b": 2}


def test_pickles_and_delegates():
    class Named(TensorDataset):
        classes = ("cat", "dog")

    data = Replayed(TensorDataset(torch.arange(4.0)), torch.Tensor.neg, seed=5, views=2)
    data.set_epoch(3)
    copy = pickle.loads(pickle.dumps(data))
    assert copy.fingerprint == data.fingerprint
    assert copy.draw(1, 1)[0] == -1
    item = pickle.loads(pickle.dumps(data[2]))
    assert (item.index, item.key) == (2, "1.2")
    assert Replayed(Named(torch.zeros(2))).classes == ("cat", "dog")
    with pytest.raises(AttributeError):
        _ = data.missing
    assert "views=2" in repr(data)


def test_fingerprints_follow_data_transform_and_seed():
    def made(shift=0.0, transform=None, **options):
        return Replayed(TensorDataset(torch.arange(4.0) + shift), transform, **options).fingerprint

    crop = lambda size: v2.RandomResizedCrop(size)  # noqa: E731
    prints = [
        made(),
        made(1.0),
        made(seed=1),
        made(transform=crop(8)),
        made(transform=crop(9)),
        made(transform=v1.RandomResizedCrop(8)),
        made(fingerprint="mine"),
        made(fingerprint="mine, second edition"),
    ]
    assert len(set(prints)) == len(prints)
    assert made(transform=crop(8)) == made(transform=crop(8))
    assert made(fingerprint="mine") == made(5.0, fingerprint="mine")


def test_without_a_fingerprint_it_works_but_says_so_when_asked(tmp_path):
    class Holding:
        def __init__(self):
            self.file = (tmp_path / "log").open("w")

        def __call__(self, image):
            return image

    data = Replayed([1, 2], Holding())
    assert data[1].sample == 2
    with pytest.raises(TypeError, match=r"transform\.file, a TextIOWrapper: pass `fingerprint="):
        _ = data.fingerprint
    assert Replayed([1], Holding(), fingerprint="mine").fingerprint


def test_streams_and_numbers_out_of_range_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield 1

    with pytest.raises(TypeError, match="map-style"):
        Replayed(Stream())
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Replayed([1], views=0)


def test_keys_stay_on_the_host_when_a_batch_moves():
    (batch,) = DataLoader(Replayed(TensorDataset(torch.zeros(2, 3))), batch_size=2)
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, IndexedDraw)
    assert moved.sample[0].device.type == moved.index.device.type == "meta"
    assert list(moved.key) == ["0.0", "0.1"]


def test_a_subset_keeps_the_keys():
    assert Subset(Replayed(["a", "b", "c"]), [2])[0].key == "0.2"
