"""Made-up results with the shape of real ones, for the tests of the leaderboard: deterministic, scores consistent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kd_bench.predictions import Predictions, write_predictions
from kd_bench.results import (
    PLAIN,
    Best,
    CitationInfo,
    Curve,
    Environment,
    MethodInfo,
    ProtocolRef,
    Run,
    RunSet,
    Scores,
    StudentInfo,
    TeacherInfo,
)
from kd_bench.run_set_files import run_set_path
from kd_bench.storage import file_sha256, write_model

SAMPLES = 360
CLASSES = 10
TEACHER_MISTAKES = 5
TEACHER_ACCURACY = 1 - TEACHER_MISTAKES / SAMPLES

# name, family, margin of the true class's logit, scale of the logits, seconds, extra parameters
ROWS = (
    (PLAIN, None, 3.1, 2.6, 10.0, 0),
    ("KD", "logits", 3.5, 1.8, 11.0, 0),
    ("DKD", "logits", 3.75, 2.0, 11.5, 0),
    ("PLD", "logits", 3.7, 2.4, 12.0, 0),
    ("AttentionTransfer", "features", 3.3, 3.2, 13.0, 0),
    ("FitNet", "features", 3.35, 2.9, 14.0, 5000),
)

ENVIRONMENT = Environment(
    python="3.11.2",
    torch="2.14.0",
    lightning="2.6.0",
    lightning_kd="0.1.0",
    platform="Linux-6.1-x86_64",
    cpu="Example CPU",
    threads=1,
)


def predictions(margin: float, scale: float, seed: int) -> tuple[Predictions, float]:
    """Predictions of an imaginary student, and their calibration error, computed plainly."""
    random = np.random.default_rng([seed, int(1000 * margin)])
    label = np.arange(SAMPLES) % CLASSES
    logits = random.normal(size=(SAMPLES, CLASSES))
    logits[np.arange(SAMPLES), label] += margin
    teacher = np.eye(CLASSES)[np.where(np.arange(SAMPLES) < TEACHER_MISTAKES, (label + 1) % CLASSES, label)]
    made = Predictions.from_logits(torch.from_numpy(scale * logits), torch.from_numpy(label), torch.from_numpy(teacher))
    error = 0.0
    for low in range(15):
        inside = (made.confidence > low / 15) & (made.confidence <= (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(made.correct[inside].mean() - made.confidence[inside].mean())
    return made, float(error)


def write_run_set(
    results: Path,
    name: str,
    family: str | None,
    margin: float = 3.5,
    scale: float = 1.0,
    seconds: float = 10.0,
    extra: int = 0,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    protocol: str = "digits-v1",
    models: tuple[str, str] = ("mini_cnn4", "mini_resnet14"),
    **method: Any,
) -> RunSet:
    """Write one run set and its predictions, as the runner does."""
    student, teacher = models
    path = run_set_path(results, protocol, name, student, teacher)
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in seeds:
        made, error = predictions(margin, scale, seed)
        file = path.parent / f"seed{seed}.npz"
        write_predictions(file, made)
        runs.append(
            Run(
                seed=seed,
                last=Scores(accuracy=made.accuracy, nll=made.nll, ece=error, agreement=made.agreement),
                best=Best(accuracy=min(1.0, made.accuracy + 0.005), epoch=1),
                curve=Curve(validation_accuracy=(0.5, made.accuracy), train_loss=(2.0, 0.5)),
                predictions_file=file.name,
                predictions_sha256=file_sha256(file),
                seconds=seconds + 0.1 * seed,
                peak_memory_mb=512.0 + extra / 1000,
                device="cpu",
                extra_parameters=extra,
            )
        )
    described: dict[str, Any] = {
        "name": name,
        "class_path": f"lightning_kd.methods.{family}.{name.lower()}.{name}" if family else None,
        "parameters": {"temperature": 4.0, "weight": 0.9} if family else {},
        "task_weight": 1.0,
        "source_sha256": "c" * 64 if family else None,
        "package_version": "0.1.0",
        "citation": CitationInfo(
            title=f"About {name}", authors="Doe et al.", venue="ICLR", year=2020, arxiv="2001.00001"
        )
        if family
        else None,
    }
    run_set = RunSet(
        protocol=ProtocolRef(id=protocol, hash="a" * 64),
        method=MethodInfo(**(described | method)),
        teacher=TeacherInfo(name=teacher, weights_sha256="b" * 64, accuracy=TEACHER_ACCURACY, parameters=180_000),
        student=StudentInfo(name=student, parameters=5_000),
        environment=ENVIRONMENT,
        runs=tuple(runs),
    )
    write_model(path, run_set)
    return run_set


def write_results(results: Path, seeds: Sequence[int] = (0, 1, 2, 3, 4), **place: Any) -> list[RunSet]:
    """Write a whole leaderboard's worth of results; ``place`` may be a protocol and models."""
    return [write_run_set(results, *row, seeds=seeds, **place) for row in ROWS]
