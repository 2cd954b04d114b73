"""What the engine adds to a training step, against the same losses written into the LightningModule by hand."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import Distillation, DistillationModule
from lightning_kd.functional import attention_transfer_loss, kd_loss
from lightning_kd.methods import KD, AttentionTransfer

CLASSES = 100
LAYERS = ("layer1", "layer2", "layer3")


class Net(nn.Module):
    """Three convolutional stages and a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer1 = self._stage(3, width, 1)
        self.layer2 = self._stage(width, 2 * width, 2)
        self.layer3 = self._stage(2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, CLASSES)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(B, 100)``."""
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Student(L.LightningModule):
    """Without distillation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = Net(width)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        x, y = batch
        loss = F.cross_entropy(self.model(x), y)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class ByHand(Student):
    """With KD and attention transfer written in."""

    def __init__(self, width: int, teacher: Net) -> None:
        super().__init__(width)
        self.teacher = [teacher.eval().requires_grad_(False)]
        self.features: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}}
        for side, network in (("student", self.model), ("teacher", teacher)):
            for name in LAYERS:
                getattr(network, name).register_forward_hook(self._keep(side, name))

    def _keep(self, side: str, name: str) -> Callable[..., None]:
        return lambda module, inputs, output: self.features[side].__setitem__(name, output)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy, KD and attention transfer; the terms are logged as the engine logs them."""
        x, y = batch
        logits = self.model(x)
        task = F.cross_entropy(logits, y)
        self.log("train/loss", task)
        with torch.no_grad():
            taught = self.teacher[0](x)
        kd = kd_loss(logits, taught, 4.0)
        student, teacher = ([self.features[side][name] for name in LAYERS] for side in ("student", "teacher"))
        attention = attention_transfer_loss(student, teacher)
        self.log_dict({"kd/task": task.detach(), "kd/KD": kd.detach(), "kd/AttentionTransfer": attention.detach()})
        return task + 0.9 * kd + 100.0 * attention


class StepTimes(L.Callback):
    """Processor time of this process from the start of one batch to the start of the next.

    With one thread and everything in memory that is the wall time of a quiet machine, and other processes disturb it
    less.
    """

    def __init__(self, skip: int) -> None:
        self.skip, self.starts = skip, list[float]()

    def on_train_batch_start(self, *args: Any) -> None:
        """Note the time."""
        self.starts.append(time.process_time())

    def median(self) -> float:
        """Median step in seconds, without the first steps."""
        steps = [b - a for a, b in zip(self.starts, self.starts[1:], strict=False)]
        return statistics.median(steps[self.skip :])


def run(kind: str, options: argparse.Namespace) -> float:
    """Train for some steps and return the median step."""
    torch.manual_seed(0)
    teacher, times = Net(2 * options.width), StepTimes(skip=5)
    methods = [KD(weight=0.9), AttentionTransfer(layers={name: name for name in LAYERS}, weight=100.0)]
    callbacks: list[L.Callback] = [times]
    module: L.LightningModule
    if kind == "by hand":
        module = ByHand(options.width, teacher)
    elif kind == "plain student":
        module = Student(options.width)
    elif kind == "door 1":
        module = DistillationModule(Student(options.width), teacher, methods)
    else:
        module = Student(options.width)
        callbacks.append(Distillation(teacher, methods))
    trainer = L.Trainer(
        max_steps=options.steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(module, loader(options.batch_size, options.steps))
    return times.median()


def loader(batch_size: int, steps: int) -> DataLoader[Any]:
    """As many equal batches as steps."""
    x, y = torch.randn(batch_size, 3, 32, 32), torch.randint(CLASSES, (batch_size,))
    dataset = TensorDataset(x, y)
    return DataLoader(torch.utils.data.ConcatDataset([dataset] * steps), batch_size=batch_size)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


class Memory(L.Callback):
    """Resident memory in the course of a fit."""

    def __init__(self, every: int) -> None:
        self.every, self.readings = every, list[float]()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read now and then."""
        if batch_idx % self.every == self.every - 1:
            gc.collect()
            self.readings.append(resident_mb())


def memory(steps: int) -> list[float]:
    """Readings over a long fit of a small student through the callback door."""
    readings = Memory(max(1, steps // 10))
    teacher, methods = Net(8), [KD(), AttentionTransfer(layers={name: name for name in LAYERS}, weight=1.0)]
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Distillation(teacher, methods), readings],
    )  # fmt: skip
    trainer.fit(Student(4), loader(4, steps))
    return readings.readings


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-steps", type=int, default=1000)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    kinds = ("by hand", "door 1", "door 2", "plain student")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in kinds if number % 2 else reversed(kinds):
            seconds[kind].append(run(kind, options))
    table = Table(title="Training step (processor time), median over rounds", caption="ratio: median within a round")
    for column in ("variant", "ms", "ratio to by hand", "min", "max"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    figures: dict[str, Any] = {"options": {k: str(v) for k, v in vars(options).items()}, "torch": torch.__version__}
    for kind in kinds:
        ratios = [a / b for a, b in zip(seconds[kind], seconds["by hand"], strict=True)]
        ms, ratio = 1e3 * statistics.median(seconds[kind]), statistics.median(ratios)
        figures[kind] = {"ms": ms, "ratio": ratio}
        table.add_row(kind, f"{ms:.2f}", f"{ratio:.3f}", f"{min(ratios):.3f}", f"{max(ratios):.3f}")
    Console().print(table)
    if options.memory_steps:
        readings = memory(options.memory_steps)
        figures["memory_mb"] = readings
        Console().print(f"resident MB over {options.memory_steps} steps:", [round(value, 1) for value in readings])
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
