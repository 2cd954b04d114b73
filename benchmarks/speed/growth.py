"""How step time and memory grow with batch size, methods, taps, classes and peers."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import Distillation
from lightning_kd.methods import (
    DIST,
    DKD,
    DML,
    KD,
    NKD,
    PKT,
    RKD,
    SP,
    AttentionTransfer,
    DistillationMethod,
    LogitStandardization,
)

LAYERS = 8
STEPS, SKIPPED = 9, 3


class Net(nn.Module):
    """As many equal convolutional layers as can be tapped, and a classifier."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(LAYERS)
        )
        self.fc = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, 3, H, W)``."""
        maps = self.stem(images)
        for layer in self.layers:
            maps = layer(maps)
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits


class Student(L.LightningModule):
    """A classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net = Net(classes)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> Any:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class _Watch(L.Callback):
    """Processor time between steps, and the most that a step allocates beside what was there before."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.peak = 0
        self._profiler: Any = None

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.marks.append(time.process_time())
        if batch_idx == STEPS - 1:
            self._profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profiler.__enter__()

    def on_train_batch_end(self, *args: Any) -> None:
        if self._profiler is not None:
            self._profiler.__exit__(None, None, None)
            events = self._profiler.profiler.kineto_results.events()
            sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
            self.peak, self._profiler = max(accumulate(sizes, initial=0)), None

    def seconds(self) -> float:
        """Median step, without the first."""
        steps = [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
        return statistics.median(steps[SKIPPED:])


@dataclass(frozen=True)
class Point:
    """One size.

    Attributes:
        size: the number that grows.
        seconds: median step time.
        megabytes: most that a step allocates.
    """

    size: int
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        name: in words.
        sizes: in ascending order.
        make: from a size to number of classes, batch size, teachers and methods.
    """

    name: str
    sizes: tuple[int, ...]
    make: Callable[[int], Setting]


@dataclass(frozen=True)
class Setting:
    """One training."""

    methods: Sequence[DistillationMethod]
    batch_size: int = 32
    classes: int = 100
    teachers: int = 1


def _several(count: int) -> list[DistillationMethod]:
    made = [KD(), DKD(), DIST(), NKD(), LogitStandardization(), RKD(), PKT(), SP(layers={"layers.7": "layers.7"})]
    return made[:count]


def _tapped(count: int) -> list[DistillationMethod]:
    return [AttentionTransfer(layers={f"layers.{number}": f"layers.{number}" for number in range(count)})]


AXES = (
    Axis("batch size", (8, 16, 32, 64, 128), lambda size: Setting([KD()], batch_size=size)),
    Axis("methods at once", (1, 2, 4, 8), lambda size: Setting(_several(size))),
    Axis("taps", (1, 2, 4, 8), lambda size: Setting(_tapped(size))),
    Axis("classes", (100, 1_000, 21_000), lambda size: Setting([KD()], classes=size)),
    Axis("peers", (1, 2, 4), lambda size: Setting([DML()], teachers=size)),
)


def measure(axis: Axis, rounds: int, progress: Callable[[], None] = lambda: None) -> list[Point]:
    """Time every size in turn, ``rounds`` times.

    Args:
        axis: what grows.
        rounds: the median of so many fits is taken.
        progress: called after every fit.
    """
    watches: dict[int, list[_Watch]] = {size: [] for size in axis.sizes}
    for number in range(rounds):
        for size in axis.sizes if number % 2 else reversed(axis.sizes):
            watches[size].append(_fit(axis.make(size)))
            progress()
    return [
        Point(size, statistics.median(watch.seconds() for watch in seen), seen[0].peak / 1e6)
        for size, seen in watches.items()
    ]


def exponent(points: Sequence[Point], value: Callable[[Point], float]) -> float:
    """Slope between the two largest sizes in a plot with logarithmic axes: 1 is linear, below 1 is less."""
    before, last = points[-2:]
    return math.log(value(last) / value(before)) / math.log(last.size / before.size)


def plot(measured: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Draw step time and memory against every size, on logarithmic axes with a linear slope for comparison.

    Args:
        measured: name of an axis → its points.
        path: PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values: tuple[tuple[str, Callable[[Point], float]], ...] = (
        ("step time (ms)", lambda point: 1e3 * point.seconds),
        ("peak memory of a step (MB)", lambda point: point.megabytes),
    )
    figure, rows = pyplot.subplots(2, len(measured), figsize=(13, 5.2), layout="constrained", squeeze=False)
    for row, (unit, value) in zip(rows, values, strict=True):
        for axes, (name, points) in zip(row, measured.items(), strict=True):
            numbers = [point.size for point in points]
            axes.loglog(numbers, [value(point) for point in points], "o-", color="#1f5fa8")
            axes.loglog(numbers, [value(points[0]) * size / numbers[0] for size in numbers], ":", color="#888888")
            axes.set_xlabel(name)
            axes.set_xticks(numbers, [f"{size:,}" for size in numbers])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        row[0].set_ylabel(unit)
    rows[0][0].legend(["measured", "linear"], frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _fit(setting: Setting) -> _Watch:
    torch.manual_seed(0)
    watch = _Watch()
    teachers = [Net(setting.classes, width=32) for _ in range(setting.teachers)]
    images = torch.randn(setting.batch_size, 3, 32, 32)
    data = TensorDataset(images, torch.randint(setting.classes, (setting.batch_size,)))
    batches = DataLoader(torch.utils.data.ConcatDataset([data] * STEPS), batch_size=setting.batch_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
            callbacks=[Distillation(teachers, method=list(setting.methods)), watch],
        )  # fmt: skip
        trainer.fit(Student(setting.classes), batches)
    return watch
