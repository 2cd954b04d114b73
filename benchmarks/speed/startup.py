"""How much later the first step comes: ``fit`` with one step, with and without distillation."""

from __future__ import annotations

import statistics
import time
from typing import Any

import lightning as L
import overhead
import torch

from lightning_kd import Distillation
from lightning_kd.methods import KD, FitNet


def measure(rounds: int) -> tuple[float, float]:
    """Seconds of a ``fit`` of one step: without distillation and with it, medians over the rounds.

    The distilled one has two methods, of which one sizes its connector by a dry run.

    Args:
        rounds: how often both take turns.
    """
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + 1):
        for distilled in (False, True) if number % 2 else (True, False):
            started = time.perf_counter()
            _fit(distilled)
            if number:  # the first round imports
                seconds[distilled].append(time.perf_counter() - started)
    return statistics.median(seconds[False]), statistics.median(seconds[True])


def _fit(distilled: bool) -> None:
    torch.manual_seed(0)
    callbacks: list[Any] = [Distillation(overhead.Net(32), method=[KD(), FitNet(layers={"layer2": "layer2"})])]
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks if distilled else [],
    )  # fmt: skip
    trainer.fit(overhead.Student(16), overhead.loader(8, 1))
