"""What a teacher cache refuses: everything in which it would be wrong, or could not be written."""

import random
import shutil

import pytest
import torch
from cached_training import Student, fit, noise, samples
from support import Innocent, data
from torch import nn
from torch.utils.data import IterableDataset

from lightning_kd.cache import shard as shard_module
from lightning_kd.callbacks import FusionRatio, LinearAnneal, TeacherCache
from lightning_kd.data import WithIndex
from lightning_kd.data.replay_check import ReplayError
from lightning_kd.methods import DML, KD, FitNet, TopKKD


class Stream(IterableDataset):
    def __iter__(self):
        yield from data(8)


class OwnRandomness:
    def __init__(self):
        self.random = random.Random(0)

    def __call__(self, image):
        return image * self.random.random()


class ChangesItsInputs(Innocent):
    """Adds noise in training_step, so that the network sees another image every time."""


class CallsTwice(Student):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return super().training_step((x, y), batch_idx) + super().training_step((x.flip(-1), y), batch_idx)


class Halves(Student):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return super().training_step((x[::2], y[::2]), batch_idx)


class Growing(nn.Module):
    """Its answers change their shape."""

    def __init__(self):
        super().__init__()
        self.calls, self.layer = 0, nn.Linear(3 * 8 * 8, 9)

    def forward(self, x):
        self.calls += 1
        return self.layer(x.flatten(1))[:, : self.calls]


class Loud(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 5)

    def forward(self, x):
        return 1e5 * self.layer(x.flatten(1))


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 7)

    def forward(self, x):
        return self.layer(x.flatten(1)).mean(0)


REFUSED = {
    "a stream": ({"dataset": Stream()}, "Stream .*no stable index"),
    "no index": ({"dataset": data()}, r"got TensorDataset; wrap it: lightning_kd\.data\.Replayed"),
    "an index alone": ({"dataset": WithIndex(data())}, "got WithIndex; wrap it"),
    "noise in training_step": ({"student": ChangesItsInputs()}, "sample 0 in view 0 reaches the network with other"),
    "two calls a step": ({"student": CallsTwice(), "epochs": 1}, "called more than once a step"),
    "half a batch": ({"student": Halves()}, "has 5 samples, but the student's network was called with 3"),
    "answers of other shapes": ({"teacher": Growing(), "methods": TopKKD()}, "entries have a fixed size"),
    "answers too large": ({"teacher": Loud()}, "which torch.float16 cannot hold.*bfloat16"),
    "one answer a batch": ({"teacher": Mean()}, r"have shape \(7,\) for a batch of 5; only tensors with one row"),
    "a peer": ({"methods": DML()}, "a peer that trains along"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_training_that_would_be_wrong(tmp_path, name):
    options, message = REFUSED[name]
    if name == "answers of other shapes":
        options["teacher"].calls = 4
    with pytest.raises((RuntimeError, ValueError), match=message):
        fit(TeacherCache(tmp_path), **options)


def test_transforms_that_cannot_be_replayed(tmp_path):
    with pytest.raises(ReplayError, match="because of the transform OwnRandomness"):
        fit(TeacherCache(tmp_path), dataset=samples(transform=OwnRandomness()))
    assert not list(tmp_path.iterdir())


def test_data_without_a_fingerprint(tmp_path):
    class Holding:
        def __init__(self):
            self.file = (tmp_path / "log").open("w")

        def __call__(self, image):
            return noise(image)

    with pytest.raises(TypeError, match=r"transform\.file, a TextIOWrapper: pass `fingerprint="):
        fit(TeacherCache(tmp_path / "cache"), dataset=samples(transform=Holding()))


def test_one_directory_for_another_teacher(tmp_path):
    name = fit(TeacherCache(tmp_path)).cache.directories[0].name
    assert fit(TeacherCache(tmp_path, reuse=name)).counts == (96, 0)
    torch.manual_seed(5)
    with pytest.raises(RuntimeError, match=r"does not belong to this training \(.*weights: .*Leave out `reuse=`"):
        fit(TeacherCache(tmp_path, reuse=name), teacher=Loud())
    with pytest.raises(RuntimeError, match="seed: 0, not 7"):
        fit(TeacherCache(tmp_path, reuse=name), dataset=samples(seed=7))
    with pytest.raises(RuntimeError, match="holds no teacher cache"):
        fit(TeacherCache(tmp_path, reuse="nothing"))


def test_a_truncated_shard(tmp_path):
    (directory,) = fit(TeacherCache(tmp_path)).cache.directories
    (shard,) = directory.glob("*.shard")
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size - 3)
    with pytest.raises(RuntimeError, match=r"00000\.shard is truncated.*delete this file"):
        fit(TeacherCache(tmp_path))
    shard.unlink()
    assert fit(TeacherCache(tmp_path)).counts == (48, 48)


def test_a_budget_is_checked_before_anything_is_written(tmp_path):
    # 24 samples, 2 views, 16 bytes of logits and 8 of checksums
    with pytest.raises(RuntimeError, match=r"exceed its budget: 48 entries of 24 bytes are 1.15 kB.* 1.15 kB"):
        fit(TeacherCache(tmp_path, budget=48 * 24 - 1))
    assert not list(tmp_path.rglob("*.shard")) + list(tmp_path.rglob("meta.json"))
    assert fit(TeacherCache(tmp_path, budget=48 * 24)).counts == (48, 48)


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(RuntimeError, match="would fill the disk"):
        fit(TeacherCache(tmp_path))


def test_a_disk_that_becomes_full(tmp_path, monkeypatch):
    original, writes = shard_module.os.pwrite, []

    def pwrite(*args):
        writes.append(args)
        if len(writes) > 30:
            raise OSError(28, "No space left on device")
        return original(*args)

    monkeypatch.setattr(shard_module.os, "pwrite", pwrite)
    with pytest.raises(RuntimeError, match=r"the disk is full.*What has been stored so far stays valid"):
        fit(TeacherCache(tmp_path, dtype="float32"))
    monkeypatch.undo()
    resumed, plain = fit(TeacherCache(tmp_path, dtype="float32")), fit()
    assert resumed.counts == (63, 33)
    assert (resumed.student.model.fc.weight == plain.student.model.fc.weight).all()


def test_settings(tmp_path):
    with pytest.raises(ValueError, match="dtype must be one of float16, bfloat16, float32, got 'int8'"):
        TeacherCache(tmp_path, dtype="int8")
    with pytest.raises(ValueError, match="top_k must be at least 1"):
        TeacherCache(tmp_path, top_k=0)
    with pytest.raises(ValueError, match="budget must be"):
        TeacherCache(tmp_path, budget="plenty")
    with pytest.raises(RuntimeError, match=r"views=3\), but the data set has views=2"):
        fit(TeacherCache(tmp_path, views=3))
    with pytest.raises(RuntimeError, match=r"FitNet compares layers, but TeacherCache\(features=False\) keeps"):
        fit(TeacherCache(tmp_path, features=False), methods=[KD(), FitNet(layers={"layer2": "layer2"})])
    with pytest.raises(
        RuntimeError, match=r"TeacherCache\(top_k=2\) keeps the likeliest classes only, but KD needs all"
    ):
        fit(TeacherCache(tmp_path, top_k=2), methods=[KD(), TopKKD(2)])
    with pytest.raises(RuntimeError, match="asks for the 3 likeliest classes"):
        fit(TeacherCache(tmp_path, top_k=2), methods=TopKKD(3))


def test_fusion_ratios_see_logits_only_if_they_are_kept(tmp_path):
    assert fit(TeacherCache(tmp_path), callbacks=[FusionRatio(LinearAnneal())]).counts == (48, 48)
    with pytest.raises(RuntimeError, match="but a method asks for all logits"):
        fit(TeacherCache(tmp_path, top_k=2), methods=TopKKD(2), callbacks=[FusionRatio(LinearAnneal())])


def test_without_a_distillation(tmp_path):
    from support import trainer
    from torch.utils.data import DataLoader

    with pytest.raises(RuntimeError, match="the Trainer has none: put Distillation"):
        trainer(callbacks=[TeacherCache(tmp_path)]).fit(Student(), DataLoader(samples(), batch_size=4))


def test_several_dataloaders(tmp_path):
    from support import trainer
    from torch.utils.data import DataLoader

    from lightning_kd import Distillation

    class First(Student):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch[0].sample, batch_idx)

    loaders = [DataLoader(samples(), batch_size=4), DataLoader(samples(), batch_size=4)]
    with pytest.raises(RuntimeError, match=r"needs one training dataloader.*got Replayed, Replayed"):
        trainer(callbacks=[TeacherCache(tmp_path), Distillation(Loud(), KD())]).fit(First(), loaders)
