"""Tiny copies of the data sets in their real formats, and how tests read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kd_bench.data.base import ClassificationData
from kd_bench.data.cifar import CIFAR100
from kd_bench.data.imagenet import ImageNet
from kd_bench.data.miniature import write_cifar100, write_imagenet

PLAIN = {"random_resized_crop": {"scale": [0.08, 1.0]}, "flip": True}

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def cifar_parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_cifar100(tmp_path_factory.mktemp("cifar"), train=230, test=100)


@pytest.fixture(scope="session")
def imagenet_parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_imagenet(tmp_path_factory.mktemp("imagenet"), train=5, val=2)


@pytest.fixture
def cifar(cifar_parameters: dict[str, Any]) -> Open:
    def open_cifar(seed: int = 0, batch_size: int = 32, augmentation: Any = None, **changes: Any) -> CIFAR100:
        settings = augmentation or {"crop_padding": 4, "flip": True}
        return CIFAR100(batch_size, seed, settings, **{**cifar_parameters, **changes})

    return open_cifar


@pytest.fixture
def imagenet(imagenet_parameters: dict[str, Any]) -> Open:
    def open_imagenet(seed: int = 0, batch_size: int = 8, augmentation: Any = None, **changes: Any) -> ImageNet:
        small = {"image_size": 32, "eval_resize": 36}
        data = ImageNet(batch_size, seed, augmentation or PLAIN, **{**imagenet_parameters, **small, **changes})
        data.loader_workers = 0
        return data

    return open_imagenet


@pytest.fixture
def epoch() -> Callable[[ClassificationData, int], list[Any]]:
    def batches(data: ClassificationData, number: int) -> list[Any]:
        loader = data.train_dataloader()
        sampler: Any = loader.sampler
        sampler.set_epoch(number)
        return list(loader)

    return batches


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nobody listens at, in place of the address of CIFAR-100."""
    import torchvision

    monkeypatch.setattr(torchvision.datasets.CIFAR100, "url", "http://127.0.0.1:9/cifar-100-python.tar.gz")


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``KD_BENCH_DATA`` with nothing in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("KD_BENCH_DATA", str(folder))
    return folder
