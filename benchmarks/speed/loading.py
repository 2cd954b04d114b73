"""How many samples a second the loaders deliver, against how many a student's training step takes."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from kd_bench.data.base import ClassificationData
from kd_bench.data.cifar import CIFAR100
from kd_bench.data.imagenet import ImageNet
from kd_bench.data.miniature import write_cifar100
from kd_bench.data.packing import pack
from kd_bench.models import create_model
from PIL import Image
from rich.console import Console
from rich.table import Table

CROP = {"random_resized_crop": {}, "flip": True}
EVERYTHING = {
    **CROP,
    "rand_augment": {"magnitude": 9, "magnitude_std": 0.5, "increasing": True},
    "random_erasing": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
}
CLASSES = 10
PHOTO = (500, 375)


@dataclass(frozen=True)
class Row:
    """One measurement, in samples a second."""

    data: str
    student: str
    batch_size: int
    workers: int
    loader: float
    step: float


def write_photographs(root: Path, count: int) -> dict[str, Any]:
    """JPEGs of about the size of ImageNet's, in its layout: noise at all scales, which compresses as photographs do.

    Args:
        root: where to.
        count: number of training images.

    Returns:
        Parameters with which ImageNet reads them.
    """
    generator = np.random.default_rng(0)
    for split, number in (("train", count), ("val", CLASSES)):
        for index in range(number):
            pixels = np.zeros((PHOTO[1], PHOTO[0], 3))
            for scale in (1, 4, 16, 64):
                coarse = generator.normal(size=(PHOTO[1] // scale + 2, PHOTO[0] // scale + 2, 3)) * scale**0.5
                pixels += np.kron(coarse, np.ones((scale, scale, 1)))[: PHOTO[1], : PHOTO[0]]
            image = Image.fromarray(np.clip(128 + 9 * pixels, 0, 255).astype(np.uint8))
            folder = root / split / f"n9000000{index % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{split}_{index:05d}.JPEG", quality=90)
    return {"root": str(root), "num_classes": CLASSES, "counts": {"train": count, "val": CLASSES}}


def loader_rate(data: ClassificationData, seconds: float) -> float:
    """Training samples a second, after the first batch, which workers are started for."""
    batches = _endless(data)
    next(batches)
    return _rate(lambda: len(next(batches)[1]), seconds, alone=data.loader_workers == 0)


def _rate(run: Callable[[], int], seconds: float, *, alone: bool) -> float:
    """Samples a second; of processor time if only this process works, so that others on the machine do not count."""
    clock = time.process_time if alone else time.perf_counter
    count, start = 0, clock()
    while clock() - start < seconds:
        count += run()
    return count / (clock() - start)


def _endless(data: ClassificationData) -> Iterator[Any]:
    loader: Any = data.train_dataloader()
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def step_rate(student: str, data: ClassificationData, device: torch.device, seconds: float) -> float:
    """Samples a second of forward, backward and optimizer step on a batch that is there already."""
    network = create_model(student, num_classes=data.num_classes, in_channels=3).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(data.batch_size, *data.image_shape, device=device)
    labels = torch.randint(data.num_classes, (data.batch_size,), device=device)

    def step() -> int:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return data.batch_size

    step()
    return _rate(step, seconds, alone=device.type == "cpu")


def cases(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, str, ClassificationData]]:
    """What is measured: name, student, data."""
    small = write_cifar100(folder, train=options.images * 10, test=100)
    padded = {"crop_padding": 4, "flip": True}
    yield "CIFAR-100", options.cifar_student, CIFAR100(64, 0, padded, **small)
    large = {**small, "image_size": 224}
    yield "CIFAR-100 at 224", options.student, CIFAR100(options.batch_size, 0, CROP, **large)
    if not options.without_timm:
        yield "CIFAR-100 at 224, all", options.student, CIFAR100(options.batch_size, 0, EVERYTHING, **large)
    photographs = write_photographs(folder / "imagenet", options.images)
    yield "ImageNet, folder", options.student, ImageNet(options.batch_size, 0, CROP, **photographs)
    pack(folder / "imagenet", folder / "shards", shard_size=100)
    packed = {**photographs, "root": str(folder / "shards")}
    yield "ImageNet, shards", options.student, ImageNet(options.batch_size, 0, CROP, **packed)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar-student", default="resnet20", help="takes images of 32 pixels")
    parser.add_argument("--student", default="torchvision:resnet18", help="takes images of 224 pixels")
    parser.add_argument("--batch-size", type=int, default=32, help="of images of 224 pixels")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="numbers of loader processes")
    parser.add_argument("--images", type=int, default=400, help="synthetic photographs")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--without-timm", action="store_true", help="leave out what needs timm")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    steps: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, student, data in cases(Path(folder), options):
            key = (student, data.image_shape[1])
            if key not in steps:
                steps[key] = step_rate(student, data, torch.device(options.device), options.seconds)
            for workers in options.workers:
                data.loader_workers = workers
                rate = loader_rate(data, options.seconds)
                rows.append(Row(name, student, data.batch_size, workers, rate, steps[key]))
                print(f"{name}, {workers} workers: {rate:,.0f} samples/s", file=sys.stderr)
    table = Table(
        title=f"Samples a second: loader alone, and training step of the student on {options.device}",
        caption="Above 1 the loader waits for the step. Without workers and on the CPU: a second of processor time. "
        "Files were just written and come from memory, not from disk.",
    )
    for column in ("data", "student", "batch", "workers", "loader", "step", "loader / step"):
        table.add_column(column, justify="left" if column in ("data", "student") else "right")
    for row in rows:
        table.add_row(
            row.data, row.student, str(row.batch_size), str(row.workers),
            f"{row.loader:,.0f}", f"{row.step:,.0f}", f"{row.loader / row.step:.2f}",
        )  # fmt: skip
    Console(width=120).print(table)
    if options.output:
        figures = {"options": {k: str(v) for k, v in vars(options).items()}, "torch": torch.__version__}
        content = json.dumps({**figures, "rows": [asdict(row) for row in rows]}, indent=1)
        options.output.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
