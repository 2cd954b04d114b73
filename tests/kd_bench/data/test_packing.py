"""Shards: what is in them, and what becomes of a packing that was interrupted."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kd_bench.data import packing
from kd_bench.data.image_folder import FolderImages
from kd_bench.data.packing import pack
from kd_bench.data.shard_index import read_index, scan
from kd_bench.data.shards import ShardImages, find_shards
from kd_bench.errors import UserError
from PIL import Image

from lightning_kd.cli.main import main


@pytest.fixture
def source(imagenet_parameters: dict[str, Any]) -> Path:
    return Path(imagenet_parameters["root"])


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_a_shard_has_image_and_label_of_every_sample_one_after_the_other(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path, shard_size=20)
    images = FolderImages(source / "train")
    classes = {wnid: number for number, wnid in enumerate(images.wnids)}
    seen = set()
    for shard in find_shards(tmp_path, "train"):
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
            # readers of streams take neighbours with the same name up to its first dot for one sample
            for label, image in zip(members[::2], members[1::2], strict=True):
                key, ending = image.name.split(".")
                assert (label.name, ending) == (f"{key}.cls", "jpg")
                wnid, name = key.split("/")
                assert int(tar.extractfile(label).read()) == classes[wnid]  # type: ignore[union-attr]
                content = tar.extractfile(image).read()  # type: ignore[union-attr]
                assert content == (source / "train" / wnid / f"{name}.JPEG").read_bytes()
                seen.add(key)
    assert len(seen) == len(images) == 50


def test_shards_have_the_order_of_the_folder(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path, shard_size=7)
    folder, shards = FolderImages(source / "train"), ShardImages(find_shards(tmp_path, "train"))
    assert folder.wnids == shards.wnids
    assert folder.keys.tolist() == shards.keys.tolist()
    assert folder.labels.tolist() == shards.labels.tolist()
    assert all(folder.read(index) == shards.read(index) for index in range(50))


def test_in_a_shard_the_classes_are_mixed(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path, shard_size=20)
    first = [read_index(shard).labels[0] for shard in find_shards(tmp_path, "train")]
    labels = read_index(find_shards(tmp_path, "train")[0]).labels
    assert len(set(labels)) > 5
    assert list(labels) != sorted(labels)
    assert len(first) == 3


def test_the_order_is_that_of_torchvision_for_names_as_they_are_in_imagenet(tmp_path: Path) -> None:
    import torchvision

    for name in ("n01_10", "n01_9", "n01_100", "n01_1"):
        for wnid in ("n01", "n02"):
            (tmp_path / wnid).mkdir(exist_ok=True)
            Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(tmp_path / wnid / f"{name}.JPEG", "JPEG")
    images = FolderImages(tmp_path)
    expected = torchvision.datasets.ImageFolder(str(tmp_path)).samples
    assert [str(images.path(index)) for index in range(8)] == [path for path, _ in expected]
    assert images.labels.tolist() == [label for _, label in expected]


def test_packing_goes_on_where_it_stopped(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(source, tmp_path / "whole", shard_size=15)
    expected = _contents(tmp_path / "whole")
    assert sorted(name for name in expected if name.endswith(".tar")) == [
        *(f"imagenet-train-{number:06d}.tar" for number in range(4)),
        *(f"imagenet-val-{number:06d}.tar" for number in range(2)),
    ]
    written, add = [0], packing._add

    def fail_later(*args: Any) -> None:
        written[0] += 1
        if written[0] > 75:  # in the third shard
            raise OSError(28, "No space left on device")
        add(*args)

    monkeypatch.setattr(packing, "_add", fail_later)
    with pytest.raises(UserError, match=r"No space left on device.*written so far are whole.*run the command again"):
        pack(source, tmp_path / "parts", shard_size=15)
    monkeypatch.undo()
    left = _contents(tmp_path / "parts")
    assert left == {name: digest for name, digest in expected.items() if name[:21] <= "imagenet-train-000001"}
    packed = pack(source, tmp_path / "parts", shard_size=15)
    assert (packed.images, packed.written, packed.kept) == (70, 4, 2)
    assert _contents(tmp_path / "parts") == expected


def test_other_shards_in_the_way_are_refused(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path, shard_size=20)
    for shard_size, name in ((10, "imagenet-train-000000"), (60, "imagenet-train-000001")):
        with pytest.raises(UserError, match=f"{name}.tar was packed from other images or with another shard size"):
            pack(source, tmp_path, shard_size)


def test_a_lost_or_outdated_index_is_made_anew(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path, shard_size=100)
    shard = tmp_path / "imagenet-train-000000.tar"
    index = shard.with_suffix(".json")
    kept = index.read_bytes()
    index.unlink()
    assert read_index(shard) == scan(shard)
    assert index.read_bytes() == kept
    # another shard of the same size
    other = tmp_path / "other.tar"
    with tarfile.open(shard) as old, tarfile.open(other, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            content = old.extractfile(member)
            member.name = member.name.replace("/n", "/m")
            new.addfile(member, content)
    other.with_suffix(".json").write_bytes(kept)
    assert other.stat().st_size == shard.stat().st_size
    assert read_index(other) == scan(other) != read_index(shard)
    index.write_bytes(kept[:50])
    assert read_index(shard) == scan(shard)


def test_an_index_goes_into_the_cache_where_shards_cannot_be_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(source, tmp_path / "shards", shard_size=100)
    shard = tmp_path / "shards" / "imagenet-val-000000.tar"
    shard.with_suffix(".json").unlink()
    shard.with_suffix(".json").mkdir()  # whoever the user is, no file can be put there
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    index = read_index(shard)
    (kept,) = (tmp_path / "home").rglob("imagenet-val-000000-*.json")
    before = os.stat(kept).st_mtime_ns
    assert read_index(shard) == index
    assert os.stat(kept).st_mtime_ns == before


def test_a_shard_that_is_cut_off_is_named(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path, shard_size=100)
    shard = tmp_path / "imagenet-train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-20_000])
    with pytest.raises(UserError, match=f"{shard} is not a complete shard"):
        ShardImages([shard])


def test_shards_of_another_make_are_refused(tmp_path: Path) -> None:
    shard = tmp_path / "imagenet-train-000000.tar"
    with tarfile.open(shard, "w") as tar:
        tar.addfile(tarfile.TarInfo("n01/n01_1.jpg"))
    with pytest.raises(UserError, match=r"does not have a .jpg and a .cls for every image \(n01/n01_1\)"):
        ShardImages([shard])


def test_shards_that_are_missing_are_noticed(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path, shard_size=3)
    shards = find_shards(tmp_path, "train")
    keep = [shard for shard in shards if not any("n90000000" in key for key in read_index(shard).keys)]
    assert 0 < len(keep) < len(shards)
    with pytest.raises(UserError, match=r"label n90000001/\S+ as class 1; expected 0.*shards are missing"):
        ShardImages(keep)


def test_names_that_shards_cannot_hold_are_refused(source: Path, tmp_path: Path) -> None:
    picture = Image.open(next((source / "val" / "n90000001").iterdir()))
    for split in ("train", "val"):
        (tmp_path / split / "n1").mkdir(parents=True)
        picture.save(tmp_path / split / "n1" / "a.b.JPEG", "JPEG")
    with pytest.raises(UserError, match="has a dot in its name"):
        pack(tmp_path, tmp_path / "shards", 10)
    for split in ("train", "val"):
        (tmp_path / split / "n1" / "a.b.JPEG").rename(tmp_path / split / "n1" / "a.JPEG")
        picture.save(tmp_path / split / "n1" / "a.png", "PNG")
    with pytest.raises(UserError, match="two images called 'n1/a'"):
        pack(tmp_path, tmp_path / "shards", 10)


def test_the_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "shards", str(source), str(tmp_path / "shards"), "--shard-size", "25"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out == f"70 images in 3 shards, 0 of which were there before: {tmp_path}/shards\n"
    assert "imagenet-train-000001.tar: 25 images" in shown.err
    assert main(command) == 0
    assert "3 of which were there before" in capsys.readouterr().out
    assert main(["bench", "shards", str(tmp_path / "nothing"), str(tmp_path / "shards")]) == 2
    assert "there is no folder" in capsys.readouterr().err
