"""The tiny copies have the formats of the real ones."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from kd_bench.data.base import TrainingNeeds
from kd_bench.data.cifar import CIFAR100
from kd_bench.data.miniature import write_cifar100, write_imagenet


def test_cifar_files_have_the_keys_and_shapes_of_the_real_ones(tmp_path: Path) -> None:
    parameters = write_cifar100(tmp_path, train=220, test=100)
    files: dict[str, Any] = {}
    with tarfile.open(Path(parameters["root"]) / "cifar-100-python.tar.gz") as archive:
        for name in archive.getnames():
            files[name] = pickle.load(archive.extractfile(name), encoding="latin1")  # type: ignore[arg-type]
    assert set(files) == {f"cifar-100-python/{name}" for name in ("train", "test", "meta")}
    train, meta = files["cifar-100-python/train"], files["cifar-100-python/meta"]
    assert set(train) == {"filenames", "batch_label", "fine_labels", "coarse_labels", "data"}
    assert (train["data"].shape, train["data"].dtype) == ((220, 3072), np.uint8)
    assert sorted(set(train["fine_labels"])) == list(range(100))
    assert len(meta["fine_label_names"]) == 100


def test_writing_again_gives_the_same_files(tmp_path: Path) -> None:
    first, again, other = (write_cifar100(tmp_path / place) for place in ("a", "a", "b"))
    assert first == again
    assert first["checksums"] == other["checksums"]
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_handful_of_images_is_enough_to_hold_some_out(tmp_path: Path) -> None:
    data = CIFAR100(8, 0, {"crop_padding": 4, "flip": True}, **write_cifar100(tmp_path, train=16, test=10))
    data.needs = TrainingNeeds(held_out=0.1)
    assert len(data.train_dataloader().dataset) == 14
    assert len(data.held_out_dataloader().dataset) == 2


def test_test_images_are_not_among_the_training_images(tmp_path: Path) -> None:
    data = CIFAR100(32, 0, {"crop_padding": 0, "flip": False}, **write_cifar100(tmp_path))
    train = data.train_dataloader().dataset.images.flatten(1)
    test = data.test_dataloader().dataset.images.flatten(1)
    assert not (train[:, None] == test[None]).all(-1).any()
    folders = write_imagenet(tmp_path, train=3, val=2)["root"]
    pictures = [path.read_bytes() for path in Path(folders).rglob("*.JPEG")]
    assert len(set(pictures)) == len(pictures) == 50
