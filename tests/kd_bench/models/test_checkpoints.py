from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.models.checkpoints import load_teacher


def checkpoint(path: Path, name: str, num_classes: int = 100) -> Path:
    torch.manual_seed(0)
    torch.save({"model": create_model(name, num_classes=num_classes).state_dict()}, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_local_file_with_its_hash(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "r8.pth", "resnet8")
    for source in (path, str(path), path.as_uri()):
        assert load_teacher("resnet8", source, sha256=sha256(path)).state_dict().keys()
    with pytest.raises(
        UserError, match=rf"r8\.pth has the wrong checksum: expected sha256 00000000, found {sha256(path)}"
    ):
        load_teacher("resnet8", path, sha256="00000000")


def test_a_name_with_a_hash_sign_is_a_file_if_there_is_one(tmp_path: Path) -> None:
    assert load_teacher("resnet8", checkpoint(tmp_path / "run#1.pth", "resnet8"))


def test_an_address(site: Any, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "r8.pth", "resnet8")
    site.content = path.read_bytes()
    loaded = [load_teacher("resnet8", site.url, sha256=sha256(path), cache_dir=tmp_path / "cache") for _ in range(2)]
    assert len(site.requests) == 1
    images = torch.randn(2, 3, 32, 32)
    expected = load_teacher("resnet8", path)(images)
    assert all(torch.equal(network(images), expected) for network in loaded)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist. Expected a file, or an address"):
        load_teacher("resnet8", tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="is a directory"):
        load_teacher("resnet8", tmp_path)


def test_an_unknown_network_is_refused_before_anything_is_fetched(site: Any) -> None:
    with pytest.raises(UserError, match="unknown model"):
        load_teacher("resnet9", site.url)
    assert site.requests == []


def test_a_teacher_of_other_classes(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "r8.pth", "resnet8", num_classes=10)
    with pytest.raises(UserError, match=r"holds a resnet8 for 10 classes, expected 100.*num_classes=10"):
        load_teacher("resnet8", path)
    assert load_teacher("resnet8", path, num_classes=10)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_the_weights_of_another_network_of_the_zoo(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "teacher.pth", "resnet32x4", num_classes=10)
    with pytest.raises(
        UserError,
        match=r"does not hold the weights of 'wrn_40_2': missing block1\.layer\.0\.bn1\.weight, .* and \d+ more; "
        r"unexpected layer1.* and \d+ more; of another shape conv1\.weight \(32, 3, 3, 3\) instead of \(16, 3, 3, 3\), "
        r".*They are those of 'resnet32x4' for 10 classes",
    ):
        load_teacher("wrn_40_2", path)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("resnet20", "resnet32"),
        ("resnet8", "resnet8x4"),
        ("cifar_resnet50", "cifar_resnet18"),
        ("vgg8", "vgg13"),
    ],
)
def test_a_sibling_of_the_network_is_named(asked: str, given: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "teacher.pth", given)
    with pytest.raises(UserError, match=rf"(missing|unexpected|shape).* They are those of '{given}' for 100 classes"):
        load_teacher(asked, path)


def test_weights_of_no_network_of_the_zoo_name_the_nearest(tmp_path: Path) -> None:
    weights = create_model("resnet20", num_classes=100).state_dict()
    del weights["layer2.1.conv1.weight"]
    weights["head.weight"] = torch.ones(2, 2)
    torch.save(weights, tmp_path / "odd.pth")
    with pytest.raises(
        UserError,
        match=r"missing layer2\.1\.conv1\.weight; unexpected head\.weight. The nearest network is 'resnet20', .* 98%",
    ):
        load_teacher("resnet20", tmp_path / "odd.pth")


def test_a_torchvision_network_by_its_prefix(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "resnet18.pth", "torchvision:resnet18", num_classes=1000)
    assert load_teacher("torchvision:resnet18", path, num_classes=1000)
    with pytest.raises(UserError, match="for 1000 classes, expected 100"):
        load_teacher("torchvision:resnet18", path)
