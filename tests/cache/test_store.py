"""Entries come back as they were written, or not at all."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_kd.cache import shard as shard_module
from lightning_kd.cache import store as store_module
from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.layout import Field, Layout
from lightning_kd.cache.shard import Shard
from lightning_kd.cache.store import Store

LAYOUT = Layout([Field("logits", (3,), torch.float32, torch.float32), Field("indices", (2,), torch.int32, torch.int32)])
COUNT = 50


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 7 * LAYOUT.size)


def create(folder, count=COUNT, **options):
    return Store.create(folder, LAYOUT, count, {"teacher": "x"}, **options)


def rows(slots):
    slots = torch.as_tensor(slots)
    logits = slots.float().unsqueeze(1) + torch.tensor([0.0, 0.25, 0.5])
    return LAYOUT.pack({"logits": logits, "indices": torch.stack([slots, slots + 1], 1).int()})


def check(store, slots):
    content, given = store.read(slots)
    assert torch.equal(content, rows(slots))
    assert given == [slot + 1 for slot in slots]


def write(store, slots):
    store.write(slots, rows(slots), [slot + 1 for slot in slots])


def test_what_is_written_is_read_in_any_order_and_by_others(tmp_path):
    store = create(tmp_path)
    assert store.read([0]) is None
    write(store, [0, 49, 8, 7, 6])
    check(store, [49, 6, 0])
    check(store, [8, 8])
    assert store.read([0, 1]) is None
    assert store.present() == 5
    other = Store.open(tmp_path)
    check(other, [7, 8])
    write(other, [1])
    check(store, [0, 1])  # seen by those who had the file open
    assert store.given([0, 2]) == [1, None]
    assert len(list(tmp_path.glob("*.shard"))) == 3
    store.close()
    other.close()
    check(store, [49])  # opens again


def test_meta_is_readable(tmp_path):
    create(tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["entries"] == COUNT
    assert meta["key"] == {"teacher": "x"}
    assert meta["fields"][0] == {"name": "logits", "shape": [3], "stored": "float32", "given": "float32"}
    assert not list(tmp_path.glob(".*"))


def test_nothing_there_is_no_store_and_damaged_descriptions_are_refused(tmp_path):
    assert Store.open(tmp_path) is None
    for text in (
        "{",
        "[]",
        "{}",
        '{"fields": [{"name": "x", "shape": [1], "stored": "os", "given": "os"}], "entries": 1}',
    ):
        (tmp_path / "meta.json").write_text(text)
        with pytest.raises(TeacherCacheError, match="delete"):
            Store.open(tmp_path)


def test_another_layout_in_the_same_place_is_refused(tmp_path):
    create(tmp_path).close()
    with pytest.raises(TeacherCacheError, match="delete it"):
        Store.create(tmp_path, Layout([Field("logits", (4,), torch.float32, torch.float32)]), COUNT, {})
    with pytest.raises(TeacherCacheError, match="delete it"):
        create(tmp_path, count=COUNT + 1)


def test_truncated_and_foreign_files_are_named(tmp_path):
    store = create(tmp_path)
    write(store, [0, 1])
    store.close()
    path = tmp_path / "00000.shard"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(TeacherCacheError, match=r"00000\.shard is truncated: .*delete this file"):
        store.read([0])
    path.write_bytes(b"x" * len(content))
    with pytest.raises(TeacherCacheError, match="is no file of a teacher cache"):
        store.read([0])
    path.unlink()
    assert store.read([0]) is None
    write(store, [0])
    check(store, [0])


def test_a_changed_byte_is_a_miss(tmp_path):
    store = create(tmp_path)
    write(store, [2])
    store.close()
    path = tmp_path / "00000.shard"
    content = bytearray(path.read_bytes())
    # header and table are 4096 bytes each
    for place in (8192 + 2 * LAYOUT.size, 4096 + 2 * 8, 4096 + 2 * 8 + 4):
        torn = bytearray(content)
        torn[place] ^= 1
        path.write_bytes(torn)
        assert store.read([2]) is None
        store.close()
    path.write_bytes(content)
    check(store, [2])
    moved = bytearray(content)
    moved[4096 + 24 : 4096 + 32] = content[4096 + 16 : 4096 + 24]
    moved[8192 + 3 * LAYOUT.size : 8192 + 4 * LAYOUT.size] = content[8192 + 2 * LAYOUT.size : 8192 + 3 * LAYOUT.size]
    store.close()
    path.write_bytes(moved)
    assert store.read([3]) is None  # the right bytes in the wrong place


def test_an_entry_is_torn_until_its_mark_is_written(tmp_path, monkeypatch):
    store = create(tmp_path)
    original = shard_module._write
    written = []

    def stops(file, content, place):
        if len(written) == 3:
            original(file, content[:3], place)
            raise KeyboardInterrupt
        written.append(place)
        original(file, content, place)

    monkeypatch.setattr(shard_module, "_write", stops)
    with pytest.raises(KeyboardInterrupt):
        write(store, [0, 1])  # both entries and one mark are whole, the other mark is torn
    monkeypatch.undo()
    check(store, [0])
    assert store.read([1]) is None


def test_a_full_disk_is_an_error_that_leaves_the_cache_valid(tmp_path, monkeypatch):
    store = create(tmp_path)
    write(store, [0])

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shard_module.os, "pwrite", full)
    with pytest.raises(TeacherCacheError, match=r"the disk is full.*fewer views"):
        write(store, [1])
    monkeypatch.undo()
    check(store, [0])
    assert store.read([1]) is None
    monkeypatch.setattr(shard_module.os, "link", full)
    with pytest.raises(TeacherCacheError, match="the disk is full"):
        write(store, [20])


def test_without_hard_links(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(shard_module.os, "link", unsupported)
    store = create(tmp_path)
    write(store, [5, 6, 7])
    check(Store.open(tmp_path), [7, 5])


def test_large_caches_have_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "MOST_SHARDS", 4)
    store = create(tmp_path, count=1000)
    write(store, list(range(0, 1000, 9)))
    assert len(list(tmp_path.glob("*.shard"))) == 4
    check(store, [999, 0, 450])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=9, unique=True))))
def test_presence_is_what_was_written_and_not_torn(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("fuzz")
    store, there = create(folder), set()
    for action, slots in steps:
        if action == 0:
            write(store, slots)
            there |= set(slots)
        elif action == 1:  # as after a kill: opened anew
            store.close()
            store = Store.open(folder)
        else:  # bytes of an entry are torn
            for slot in slots:
                path = folder / f"{slot // 7:05d}.shard"
                if path.exists():
                    with path.open("r+b") as file:
                        file.seek(8192 + slot % 7 * LAYOUT.size)
                        file.write(b"\xff\xff\xff\xff")
            there -= set(slots)
        for slot in range(COUNT):
            assert (store.read([slot]) is not None) == (slot in there)
        if there:
            check(store, sorted(there))
    store.close()


WRITER = """
    import sys, torch
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from lightning_kd.cache import store as store_module
    store_module.SHARD_BYTES = 64 * 40
    from lightning_kd.cache.layout import Field, Layout
    from lightning_kd.cache.store import Store
    layout = Layout([Field("logits", (4000,), torch.float32, torch.float32)])
    store = Store.create(Path({folder!r}), layout, 400, {{}})
    print("ready", flush=True)
    while True:
        for slot in range({start}, 400, {step}):
            store.write([slot], layout.pack({{"logits": torch.full((1, 4000), float(slot))}}), [slot + 1])
"""


def writer(folder, start=0, step=1):
    code = textwrap.dedent(WRITER).format(tests=os.path.dirname(__file__), folder=str(folder), start=start, step=step)
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    assert process.stdout.readline().strip() == b"ready"
    return process


@pytest.mark.slow
def test_killed_writers_leave_no_wrong_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 64 * 40)
    found = []
    for attempt in range(4):
        processes = [writer(tmp_path, start, 2) for start in (0, 1)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[0].wait(0.02 * (attempt + 1))
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        store = Store.open(tmp_path)
        there = [slot for slot in range(400) if store.given([slot])[0] is not None]
        for slot in there:
            content, given = store.read([slot])
            assert given == [slot + 1]
            assert (store.layout.unpack(content)["logits"] == slot).all()
        found.append(len(there))
        store.close()
    assert found == sorted(found)
    assert found[-1] > 0


def test_a_shard_knows_its_place(tmp_path):
    shard = Shard(tmp_path / "a.shard", first=10, count=4, size=8)
    shard.write([12], [memoryview(b"12345678")], [7])
    entry, given = shard.read(12)
    assert (bytes(entry), given) == (b"12345678", 7)
    assert shard.marks() == [False, False, True, False]
    entry.release()
    shard.close()
