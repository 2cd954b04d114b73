"""Boards for the tests of ranks, comparisons and recommendations: scores are given, the rest is filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd_bench.corrections import Correction
from kd_bench.entries import Entry, entry_path
from kd_bench.results import (
    PLAIN,
    Best,
    Curve,
    DetectionCurve,
    DetectionScores,
    DetectionTeacherInfo,
    Environment,
    MethodInfo,
    ProtocolRef,
    Run,
    RunSet,
    Scores,
    StudentInfo,
    TeacherInfo,
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


def run_set(
    name: str,
    headlines: Sequence[float],
    *,
    seeds: Sequence[int] | None = None,
    protocol: str = "digits-v1",
    student: str = "mini_cnn4",
    teacher: str = "mini_resnet14",
    family: str = "logits",
    seconds: float = 10.0,
    ece: float = 0.02,
    cpu: str = "Example CPU",
    memory: float | None = 500.0,
    detection: bool = False,
    **other: Any,
) -> RunSet:
    """A run set with the headlines given, one a seed; ``other`` are fields of the run set."""
    chosen = range(len(headlines)) if seeds is None else seeds
    score = _detection if detection else _classification
    runs = tuple(
        Run(
            seed=seed,
            predictions_file=f"seed-{seed}.npz",
            predictions_sha256="d" * 64,
            seconds=seconds,
            peak_memory_mb=memory,
            device="cpu",
            extra_parameters=0,
            **score(headline, ece),
        )
        for seed, headline in zip(chosen, headlines, strict=True)
    )
    known = {"weights_sha256": "e" * 64, "parameters": 1_000}
    plain = name == PLAIN
    return RunSet(
        protocol=ProtocolRef(id=protocol, hash="a" * 64),
        method=MethodInfo(
            name=name,
            class_path=None if plain else f"lightning_kd.methods.{family}.{name.lower()}.{name}",
            parameters={},
            task_weight=1.0,
            source_sha256=None if plain else "c" * 64,
            package_version="0.1.0",
        ),
        teacher=DetectionTeacherInfo(name=teacher, ap=0.99, **known)
        if detection
        else TeacherInfo(name=teacher, accuracy=0.99, **known),
        student=StudentInfo(name=student, parameters=100),
        environment=ENVIRONMENT.model_copy(update={"cpu": cpu}),
        runs=runs,
        **other,
    )


def entry(name: str, headlines: Sequence[float], *kinds: str, **details: Any) -> Entry:
    """The same as an entry, with corrections of the kinds given."""
    found = run_set(name, headlines, **details)
    corrections = tuple(
        Correction(
            id=f"{number}-{kind}",
            date="2026-03-01",
            entry=entry_path(found),
            kind=kind,
            reason="made up",
            by="somebody",
        )
        for number, kind in enumerate(kinds)
    )
    return Entry(found, corrections=corrections)


def _classification(accuracy: float, ece: float) -> dict[str, Any]:
    return {
        "last": Scores(accuracy=accuracy, nll=1 - accuracy, ece=ece, agreement=0.9),
        "best": Best(accuracy=accuracy, epoch=0),
        "curve": Curve(validation_accuracy=(accuracy,), train_loss=(0.5,)),
    }


def _detection(ap: float, _: float) -> dict[str, Any]:
    names = ("ap", "ap_50", "ap_75", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100", "ar_medium", "ar_large")
    return {
        "last": DetectionScores(ap_small=None, ar_small=None, **dict.fromkeys(names, ap)),
        "best": None,
        "curve": DetectionCurve(validation_ap=(ap,), train_loss=(0.5,)),
    }
