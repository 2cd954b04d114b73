"""What all sides share: images on disk, two networks, and what a method is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from kd_bench.models import create_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

CLASSES = 100
STAGES = ("layer1", "layer2", "layer3")
HINT = "layer2"
LEARNING_RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-4


@dataclass(frozen=True)
class Terms:
    """The weights of a training's terms; the task loss has weight ``task``.

    Attributes:
        task: of the cross-entropy.
        terms: name of a term → its weight: ``kd`` (temperature 4), ``at``, ``fitnet``, ``rkd`` (distance 25, angle 50)
            or ``dist``.
    """

    task: float
    terms: Mapping[str, float]


METHODS = {
    "KD": Terms(0.1, {"kd": 0.9}),
    "KD+AT": Terms(0.1, {"kd": 0.9, "at": 1000.0}),
    "FitNet": Terms(1.0, {"fitnet": 100.0}),
    "RKD": Terms(1.0, {"rkd": 1.0}),
    "DIST": Terms(1.0, {"dist": 1.0}),
}


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images of 32×32 pixels in a memory-mapped file, randomly cropped and mirrored."""

    def __init__(self, path: Path) -> None:
        self.images = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(self.images[index].copy()).float().div_(255).sub_(0.5)
        padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
        top, left, mirrored = (int(torch.randint(bound, ())) for bound in (9, 9, 2))
        image = padded[:, top : top + 32, left : left + 32]
        return image.flip(-1) if mirrored else image, torch.tensor(index % CLASSES)


def write_images(path: Path, count: int) -> None:
    """Write made-up images, the same every time."""
    generator = np.random.default_rng(0)
    np.save(path, generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8))


def loader(dataset: Dataset[tuple[Tensor, Tensor]], batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Shuffled batches, made in this process."""
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)


def create_pair(student: str, teacher: str) -> tuple[nn.Module, nn.Module]:
    """Both networks with random weights, the same every time; what the classifiers read is the output of ``fc.0``."""
    torch.manual_seed(0)
    networks = create_model(student, num_classes=CLASSES), create_model(teacher, num_classes=CLASSES)
    for network in networks:
        network.fc = nn.Sequential(nn.Identity(), network.fc)
    return networks


def optimizer(module: nn.Module) -> torch.optim.Optimizer:
    """SGD as it is usual on CIFAR."""
    return torch.optim.SGD(module.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY)
