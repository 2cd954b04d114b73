"""The small parts of a teacher cache: layout, budget, keys, weights, checksums of inputs."""

import shutil
import threading

import pytest
import torch
from support import Block, ResNetLike, loader, make_student, make_teacher, trainer
from torch import nn

from lightning_kd.cache.budget import check_room, in_words, parse_size
from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.inputs import batch_size, input_checksums
from lightning_kd.cache.key import check_same_key, directory_of
from lightning_kd.cache.layout import Field, Layout
from lightning_kd.cache.store import Store
from lightning_kd.cache.weights import weights_hash


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_layouts_pack_and_unpack(stored):
    fields = [
        Field("logits", (5,), stored, torch.float32),
        Field("scalar", (), torch.float32, torch.float32),
        Field("indices", (3,), torch.int32, torch.int64),
        Field("features/a:nhwc", (2, 3, 1), stored, torch.float32),
    ]
    layout = Layout([Field.from_json(field.to_json()) for field in fields])
    assert layout.fields == tuple(fields)
    tensors = {
        "logits": torch.randn(4, 5),
        "scalar": torch.randn(4),
        "indices": torch.randint(9, (4, 3)),
        "features/a:nhwc": torch.randn(4, 3, 2, 1).transpose(1, 2),
    }
    found = layout.unpack(layout.pack(tensors))
    for field in fields:
        assert found[field.name].dtype == field.stored
        assert torch.equal(found[field.name], tensors[field.name].to(field.stored))


def test_layouts_refuse_what_does_not_fit():
    layout = Layout([Field("logits", (2,), torch.float16, torch.float32)])
    with pytest.raises(TeacherCacheError, match=r"have shape \(3,\) a sample.*\(2,\)"):
        layout.pack({"logits": torch.zeros(1, 3)})
    with pytest.raises(TeacherCacheError, match=r"reach 7e\+04, which torch.float16 cannot hold"):
        layout.pack({"logits": torch.tensor([[1.0, 70000.0]])})
    assert layout.pack({"logits": torch.tensor([[1.0, float("-inf")]])}).shape == (1, 8)


def test_sizes():
    assert [parse_size(size) for size in ("20GB", "20 gb", "1GiB", "1.5k", 7, "8")] == [
        20 * 10**9,
        20 * 10**9,
        2**30,
        1500,
        7,
        8,
    ]
    for size in ("much", "0", -1, "3 apples", "1iB"):
        with pytest.raises(ValueError, match="budget must be"):
            parse_size(size)
    assert in_words(2.5e15) == "2500 TB"


def test_room(tmp_path, monkeypatch):
    check_room(tmp_path, 100, 10, 1000)
    with pytest.raises(TeacherCacheError, match=r"exceed its budget: 101 entries of 10 bytes are 1.01 kB, .* 1 kB"):
        check_room(tmp_path, 101, 10, 1000)
    (tmp_path / "old").write_bytes(b"x" * 8192)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 2000))
    check_room(tmp_path, 100, 100, None)  # most of it has been written before
    with pytest.raises(TeacherCacheError, match=r"would fill the disk.*2 kB are free"):
        check_room(tmp_path, 1100, 10, None)


def test_keys(tmp_path):
    key = {"teacher": "A", "weights": "0" * 64, "top_k": None, "taps": ["a"]}
    assert directory_of(tmp_path, key) == directory_of(tmp_path, dict(reversed(key.items())))
    assert directory_of(tmp_path, key) != directory_of(tmp_path, {**key, "taps": []})
    with pytest.raises(TeacherCacheError, match="holds no teacher cache"):
        check_same_key(tmp_path, key)
    Store.create(tmp_path, Layout([Field("x", (1,), torch.float32, torch.float32)]), 1, key)
    check_same_key(tmp_path, key)
    with pytest.raises(TeacherCacheError, match=r"weights: .*not .*Leave out `reuse=`"):
        check_same_key(tmp_path, {**key, "weights": "1" * 64})


def test_teachers_are_told_apart():
    def changed(change):
        teacher = make_teacher()
        change(teacher)
        return weights_hash(teacher)

    def bump(parameter):
        with torch.no_grad():
            parameter.view(-1)[0] += 1e-6

    original = weights_hash(make_teacher())
    assert changed(lambda teacher: teacher.eval().requires_grad_(False)) == original
    assert changed(lambda teacher: teacher.fc.register_forward_hook(lambda *args: None)) == original
    changes = [
        lambda teacher: bump(teacher.fc.weight),
        lambda teacher: teacher.layer1.bn1.running_mean.add_(1e-3),
        lambda teacher: setattr(teacher, "dropout", nn.Dropout(0.3)),
        lambda teacher: teacher.half(),
        lambda teacher: setattr(teacher, "dropout", nn.Identity()),
        lambda teacher: setattr(teacher, "scale", 2.0),
        lambda teacher: setattr(teacher, "_scale", 2.0),
        lambda teacher: setattr(teacher, "activation", torch.nn.functional.relu),
        lambda teacher: setattr(teacher, "activation", lambda x: x),
        lambda teacher: setattr(teacher.layer1.conv1, "stride", (2, 2)),
        lambda teacher: teacher.register_buffer("more", torch.zeros(1), persistent=False),
    ]
    prints = {original, *map(changed, changes)}
    assert len(prints) == len(changes) + 1


def test_an_edited_forward_is_another_teacher():
    class Louder(ResNetLike):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(100)
    louder = Louder(6)
    assert torch.equal(louder.fc.weight, make_teacher().fc.weight)
    assert weights_hash(louder) != weights_hash(make_teacher())
    assert isinstance(louder.layer1, Block)


def test_teachers_with_a_lock_in_their_class_still_have_a_hash():
    def made(factor):
        class Locked(ResNetLike):
            lock = threading.Lock()

            def forward(self, x):
                return factor * super().forward(x)

        torch.manual_seed(100)
        return weights_hash(Locked(6))

    assert made(2) == made(2) != made(3)


def test_a_trained_lightning_module_is_the_same_teacher_as_a_loaded_one():
    trained, loaded = make_student(), make_student()
    trainer(max_epochs=1).fit(trained, loader(8))
    assert weights_hash(trained) != weights_hash(loaded)
    loaded.load_state_dict(trained.state_dict())
    loaded.epoch_ends = trained.epoch_ends
    assert weights_hash(trained) == weights_hash(loaded)


def test_checksums_are_by_sample():
    x, mask = torch.randn(3, 4), torch.ones(3, 2)
    sums = input_checksums((x,), {"mask": mask, "scale": 2.0}, 3)
    assert len(set(sums)) == 3
    assert input_checksums((x.flip(0),), {"scale": 2.0, "mask": mask}, 3) == sums[::-1]
    changed = x.clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(9.0))
    assert [
        a == b for a, b in zip(sums, input_checksums((changed,), {"mask": mask, "scale": 2.0}, 3), strict=True)
    ] == [
        True,
        False,
        True,
    ]
    assert not set(sums) & set(input_checksums((x,), {"mask": mask, "scale": 3.0}, 3))
    assert not set(sums) & set(input_checksums((x.double(),), {"mask": mask, "scale": 2.0}, 3))
    shared = torch.tensor([1.0, 2.0])
    assert not set(sums) & set(input_checksums((x, shared), {"mask": mask, "scale": 2.0}, 3))
    assert batch_size((3, [x]), {}) == 3
    assert batch_size((), {}) == 0
