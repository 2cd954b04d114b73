"""Copies of a method's file: the one that is run, and the one that results carry."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kd_bench.collect import collect
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.launchers.attempt import Done
from kd_bench.launchers.ray_home import Home, unpack
from kd_bench.launchers.ray_tasks import pack_teacher, perform
from kd_bench.method_copy import PackedMethod, run_from_copies
from kd_bench.options import RunOptions
from kd_bench.own_methods import with_own_methods
from kd_bench.protocol import Protocol
from kd_bench.run_set_files import METHOD_FILE
from kd_bench.storage import file_sha256
from kd_bench.worker import run_item
from own_method import SOURCE, forgotten, write_method

PAIR = "resnet14-cnn4"


def _item(protocol: Protocol, output: Path, seed: int = 0) -> Item:
    return Item(protocol, PAIR, "LogitMatching", seed, output)


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path) -> Iterator[None]:
    with forgotten(tmp_path):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory that the tests of this module share, for its teacher."""
    return tmp_path_factory.mktemp("output")


def test_a_result_carries_the_file(tiny: Protocol, place: Path, tmp_path: Path) -> None:
    item = _item(with_own_methods(tiny, [write_method(tmp_path)]), place)
    result = run_item(item)
    (run_set,) = collect([item])
    copy = item.run_set.with_name(METHOD_FILE)
    assert copy.read_text() == SOURCE
    assert run_set.method.source_sha256 == result.method.source_sha256 == file_sha256(copy)
    assert run_set.method.class_path == "my_method.LogitMatching"
    # from the copy it is the same method, by another name
    again = _item(with_own_methods(tiny, [str(copy)]), tmp_path / "output")
    assert again.method.class_path == "method.LogitMatching"
    assert again.method.source_sha256 == run_set.method.source_sha256
    copy.unlink()
    collect([item])
    assert copy.read_text() == SOURCE
    plain = replace(item, method_name="plain")
    run_item(plain)
    collect([plain])
    assert not plain.run_set.with_name(METHOD_FILE).exists()


def test_results_of_a_changed_file_are_not_mixed_with_the_old(tiny: Protocol, place: Path, tmp_path: Path) -> None:
    protocol = with_own_methods(tiny, [write_method(tmp_path)])
    for seed in (0, 1):
        run_item(_item(protocol, place, seed))
    (old,) = collect([_item(protocol, place)])
    assert old.seeds == (0, 1)
    write_method(tmp_path, SOURCE.replace("self.scale *", "2.0 * self.scale *"))
    changed = with_own_methods(tiny, [str(tmp_path / "my_method.py")])
    assert _item(changed, place).load() is None
    run_item(_item(changed, place))
    (new,) = collect([_item(changed, place)])
    assert new.seeds == (0,)
    assert new.runs[0].predictions_sha256 != old.runs[0].predictions_sha256
    assert new.method.source_sha256 == file_sha256(_item(changed, place).run_set.with_name(METHOD_FILE))
    assert new.method.source_sha256 != old.method.source_sha256


def test_a_file_that_changes_while_it_is_run_is_noticed(tiny: Protocol, place: Path, tmp_path: Path) -> None:
    item = _item(with_own_methods(tiny, [write_method(tmp_path)]), place, 1)
    assert item.fingerprint  # as planned, and as it travels to the workers
    write_method(tmp_path, SOURCE + "# a remark\n")
    with pytest.raises(UserError, match="was changed while the benchmark was running"):
        run_item(item)


def test_a_benchmark_runs_from_a_copy_that_nobody_edits(tiny: Protocol, tmp_path: Path) -> None:
    reference = write_method(tmp_path)
    protocol = with_own_methods(tiny, [reference])
    copies = run_from_copies(protocol, tmp_path / "output", ["plain", "LogitMatching"])
    (copy,) = (tmp_path / "output" / "methods").rglob("*.py")
    assert copies.methods["LogitMatching"].class_path == f"{copy}:LogitMatching"
    assert {**copies.methods, "LogitMatching": protocol.methods["LogitMatching"]} == protocol.methods
    before = _item(protocol, tmp_path).fingerprint
    write_method(tmp_path, "1 / 0\n")
    assert _item(copies, tmp_path).fingerprint == before
    copy.write_text("damaged")
    write_method(tmp_path)
    run_from_copies(protocol, tmp_path / "output", ["LogitMatching"])
    assert copy.read_text() == SOURCE


def test_the_file_travels_to_machines_that_do_not_see_it(
    tiny: Protocol, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    source = tmp_path / "source"
    item = _item(with_own_methods(tiny, [write_method(source)], {"scale": 0.25}), tmp_path / "driver")
    item = replace(item, options=RunOptions(keep_weights=True))
    packed, expected = PackedMethod.of(item), item.fingerprint
    run_item(replace(item, method_name="plain", output=place))
    teacher = pack_teacher(replace(item, output=place))
    shutil.rmtree(source)
    # no such directory here, so this machine is another one
    home = Home(tmp_path / "driver", "token")
    assert not home.is_here
    parcel = perform(item, expected, home, teacher, None, packed)
    assert isinstance(parcel.outcome, Done)
    unpack(item.output, parcel.files)
    assert sorted(Path(name).suffix for name in parcel.files if "seed-0." in name) == [".json", ".npz", ".safetensors"]
    monkeypatch.setattr(tempfile, "tempdir", None)
    write_method(source)
    found = _item(item.protocol, item.output).load()
    assert found is not None
    assert found.run.weights_sha256 == file_sha256(item.weights)


def test_a_benchmark_without_files_packs_none(tiny: Protocol, tmp_path: Path) -> None:
    assert PackedMethod.of(Item(tiny, PAIR, "KD", 0, tmp_path)) is None
    assert PackedMethod.of(Item(tiny, PAIR, "plain", 0, tmp_path)) is None
