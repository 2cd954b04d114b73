"""A student learns handwritten digits from a large teacher: without a cache, filling one, and reading it.

The images are cropped and rotated at random, in four different ways each, and every way can be drawn again. The run
that reads the cache does not call the teacher once, and ends with the same student, bit for bit. Run it with
``python examples/teacher_cache.py``; it takes about twenty seconds on one CPU core. The times are those of your machine
at that moment.
"""

from __future__ import annotations

import logging
import tempfile
import time

import lightning as L
import torch
import torch.nn.functional as F
from kd_bench.models import create_model
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from lightning_kd import Classification, DistillationModule
from lightning_kd.callbacks import TeacherCache
from lightning_kd.data import Replayed
from lightning_kd.methods import KD

VIEWS = 4


def digits() -> tuple[TensorDataset, TensorDataset]:
    """1,437 images to train on and 360 to test on, 8 x 8 pixels."""
    bunch = load_digits()
    images, labels = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(bunch.target)
    return TensorDataset(images[:1437], labels[:1437]), TensorDataset(images[1437:], labels[1437:])


def network(name: str, seed: int) -> nn.Module:
    """A convolutional network; the seed decides its weights."""
    torch.manual_seed(seed)
    return create_model(name, num_classes=10, in_channels=1)


def replayed(views: int) -> Replayed:
    """The training images, cropped and rotated at random, in so many views."""
    augment = v2.Compose([v2.RandomResizedCrop(8, scale=(0.7, 1.0), antialias=True), v2.RandomRotation(10)])
    return Replayed(digits()[0], transform=augment, seed=0, views=views)


def trainer(epochs: int, *callbacks: L.Callback) -> L.Trainer:
    """A quiet one."""
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


def train_teacher(epochs: int) -> nn.Module:
    """Train the large network on its labels."""
    teacher = network("mini_resnet14", seed=1)
    optimizer = torch.optim.SGD(teacher.parameters(), lr=0.05, momentum=0.9)
    L.seed_everything(1, verbose=False)
    for _ in range(epochs):
        for images, labels in DataLoader(digits()[0], batch_size=64, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(teacher(images), labels).backward()
            optimizer.step()
    return teacher


def distil(teacher: nn.Module, epochs: int, cache: TeacherCache | None) -> tuple[nn.Module, int, float]:
    """Train the small network.

    Returns:
        The student, the calls of its teacher, and samples per second.
    """
    calls: list[int] = []
    handle = teacher.register_forward_pre_hook(lambda *_: calls.append(1))
    student = network("mini_cnn4", seed=2)
    task = Classification(num_classes=10, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    module = DistillationModule(student, teacher, method=KD(temperature=4, weight=0.9), task_weight=0.1, task=task)
    data = replayed(VIEWS)
    L.seed_everything(0, verbose=False)
    begin = time.perf_counter()
    trainer(epochs, *([] if cache is None else [cache])).fit(module, DataLoader(data, batch_size=64, shuffle=True))
    seconds = time.perf_counter() - begin
    handle.remove()
    return student, len(calls), epochs * len(data) / seconds


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """Share of the test images that are classified correctly, in per cent."""
    images, labels = digits()[1].tensors
    return 100 * (network.eval()(images).argmax(-1) == labels).float().mean().item()


def equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights and buffers, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def main(epochs: int = VIEWS, teacher_epochs: int = 3) -> dict[str, tuple[nn.Module, int]]:
    """Train and print a table.

    Returns:
        For each run the student and the calls of its teacher.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    teacher = train_teacher(teacher_epochs)
    results: dict[str, tuple[nn.Module, int]] = {}
    table = Table("", "teacher called", "samples/s", "accuracy (%)", "same student", title=f"{epochs} epochs")
    with tempfile.TemporaryDirectory() as folder:
        for name, stored in (
            ("no cache", None),
            ("cold cache", "float32"),
            ("warm cache", "float32"),
            ("cold, float16", "float16"),
            ("warm, float16", "float16"),
        ):
            cache = None if stored is None else TeacherCache(folder, dtype=stored, budget="1GB")
            student, calls, speed = distil(teacher, epochs, cache)
            results[name] = student, calls
            same = "yes" if equal(student, results["no cache"][0]) else "no"
            table.add_row(name, str(calls), f"{speed:.0f}", f"{accuracy(student):.1f}", same)
    Console().print(table)
    return results


if __name__ == "__main__":
    main()
