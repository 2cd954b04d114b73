"""Samples a second of every side, in turn in one process, and the ratios within a round."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from lightning_kd.callbacks import TeacherCache
from lightning_kd.data import Replayed
from peers import by_hand, doors, with_torchdistill
from peers.pair import METHODS, Images, Terms, create_pair, loader, write_images

HAND = "by hand"
DOOR_1, DOOR_2 = "door 1", "door 2"
WARM_1, WARM_2 = "door 1, warm cache", "door 2, warm cache"
TORCHDISTILL = "torchdistill"


@dataclass(frozen=True)
class Plan:
    """What is timed.

    Attributes:
        student: model name.
        teacher: model name.
        batch_size: samples a step.
        steps: steps of a side in a round, of which the first two are not counted.
        rounds: how often the sides take turns.
    """

    student: str = "cifar_resnet8x4"
    teacher: str = "cifar_resnet32x4"
    batch_size: int = 16
    steps: int = 7
    rounds: int = 5


@dataclass(frozen=True)
class Rate:
    """One side of one method.

    Attributes:
        samples: samples a second, median over the rounds.
        ratio: samples a second relative to the loop by hand, median of the ratios within a round.
        low: lowest ratio of a round.
        high: highest.
    """

    samples: float
    ratio: float
    low: float
    high: float


Side = Callable[[Callable[[], None]], None]


class _Clock:
    """Processor time of one thread between steps; other processes on the machine disturb it less than wall time."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def __call__(self) -> None:
        self.marks.append(time.process_time())

    def median(self) -> float:
        steps = [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
        return statistics.median(steps[1:])


def sides() -> list[str]:
    """The sides that can run here."""
    installed = with_torchdistill.available()
    return [HAND, DOOR_1, DOOR_2, WARM_1, WARM_2, *([TORCHDISTILL] if installed else [])]


def compare(method: str, plan: Plan, progress: Callable[[], None] = lambda: None) -> dict[str, Rate]:
    """Time all sides of one method.

    Args:
        method: key of :data:`peers.pair.METHODS`.
        plan: what is timed.
        progress: called after every side of every round.
    """
    names = sides()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "images.npy"
        write_images(path, plan.batch_size * plan.steps)
        for number in range(plan.rounds):
            for name in names if number % 2 else reversed(names):
                clock = _Clock()
                _run(name, METHODS[method], plan, path, clock)
                seconds[name].append(clock.median())
                progress()
    rates = {}
    for name in names:
        ratios = [hand / other for hand, other in zip(seconds[HAND], seconds[name], strict=True)]
        samples = plan.batch_size / statistics.median(seconds[name])
        rates[name] = Rate(samples, statistics.median(ratios), min(ratios), max(ratios))
    return rates


def _run(name: str, terms: Terms, plan: Plan, path: Path, clock: _Clock) -> None:
    student, teacher = create_pair(plan.student, plan.teacher)
    images = Images(path)
    torch.manual_seed(1)
    if name == TORCHDISTILL:
        with_torchdistill.train(student, teacher, terms, images, plan.batch_size, clock)
    elif name == HAND:
        by_hand.train(student, teacher, terms, loader(images, plan.batch_size), clock)
    elif name in (WARM_1, WARM_2):
        _run_warm(student, teacher, terms, plan, images, path.parent, clock, 1 if name == WARM_1 else 2)
    else:
        batches = loader(images, plan.batch_size)
        doors.train(student, teacher, terms, batches, clock, door=1 if name == DOOR_1 else 2)


def _run_warm(
    student: torch.nn.Module,
    teacher: torch.nn.Module,
    terms: Terms,
    plan: Plan,
    images: Images,
    folder: Path,
    clock: _Clock,
    door: Literal[1, 2],
) -> None:
    batches = loader(Replayed(images, views=1, fingerprint="crop and flip"), plan.batch_size)
    cache = folder / "cache"
    if not cache.exists():
        filled, _ = create_pair(plan.student, plan.teacher)
        doors.train(filled, teacher, terms, batches, lambda: None, door=2, callbacks=[TeacherCache(cache)])
    warm = TeacherCache(cache)
    doors.train(student, teacher, terms, batches, clock, door=door, callbacks=[warm])
    if warm.misses:
        raise RuntimeError(f"the cache was not warm: {warm.misses} samples were not found")


def teacher_cost(plan: Plan) -> float:
    """The teacher's forward pass in forward and backward passes of the student."""
    student, teacher = create_pair(plan.student, plan.teacher)
    images = torch.randn(plan.batch_size, 3, 32, 32)
    teacher.eval()

    def forward() -> None:
        with torch.no_grad():
            teacher(images)

    def step() -> None:
        torch.nn.functional.cross_entropy(student(images), torch.zeros(len(images), dtype=torch.long)).backward()

    times = []
    for run in (forward, step):
        run()
        started = time.process_time()
        for _ in range(3):
            run()
        times.append(time.process_time() - started)
    return times[0] / times[1]
