"""Thousands of made-up, valid entries for the tests and timings of the leaderboard: deterministic, and of every kind.

``python tests/many_results.py FOLDER --count 10000`` writes them as a ``leaderboards`` folder to look at.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kd_bench.corrections import CORRECTIONS, Correction
from kd_bench.entries import RESULTS, Entry, entry_path
from kd_bench.results import (
    PLAIN,
    Best,
    CitationInfo,
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
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.verification.record import (
    LEVELS,
    VERIFICATION_FILE,
    SeedFinding,
    VerificationLog,
    VerificationRecord,
)

PROTOCOLS = ("cifar100-v1", "imagenet-v1", "fashion-v1", "coco-v1")
DETECTION = "coco-v1"
FAMILIES = ("logits", "features", "relations", "online")
EPOCHS = 30

_DAY = "2026-03-{:02d}"
_BOTH = Environment(
    python="3.11.2",
    torch="2.14.0",
    lightning="2.6.0",
    lightning_kd="0.1.0",
    platform="Linux-6.1-x86_64",
    cpu="Example CPU",
    threads=1,
)
_ELSEWHERE = _BOTH.model_copy(update={"cpu": "Another CPU"})


def many_entries(count: int = 10_000, *, rows: int = 100) -> list[Entry]:
    """Entries in memory: boards of several protocols and pairs, each with the plain student, KD and made-up methods.

    Among them are all families and those from elsewhere, both tracks, all badges, challenges open and answered,
    demotions, withdrawals, extra data, single numbers that are missing, and three to five seeds.

    Args:
        count: how many.
        rows: of a board.
    """
    return [_entry(number // rows, number % rows) for number in range(count)]


def write_entries(leaderboards: Path, entries: Sequence[Entry]) -> None:
    """Write entries where ``load_entries(leaderboards)`` finds them; without their predictions.

    Args:
        leaderboards: folder to write ``results`` and ``corrections`` into.
        entries: of :func:`many_entries`.
    """
    corrections = leaderboards / CORRECTIONS
    corrections.mkdir(parents=True)
    for entry in entries:
        folder = leaderboards / RESULTS / entry.path
        folder.mkdir(parents=True)
        (folder / RUN_SET_FILE).write_bytes(_content(entry.run_set))
        if entry.verifications:
            log = VerificationLog(records=entry.verifications)
            (folder / VERIFICATION_FILE).write_text(log.model_dump_json(indent=1), encoding="utf-8")
        for one in entry.corrections:
            (corrections / f"{one.id}.json").write_text(one.model_dump_json(indent=1), encoding="utf-8")


def _entry(board: int, row: int) -> Entry:
    random = np.random.default_rng([board, row])
    run_set = _run_set(board, row, random)
    sha256 = hashlib.sha256(_content(run_set)).hexdigest()
    return Entry(run_set, None, sha256, tuple(_verifications(run_set, sha256, row)), tuple(_corrections(run_set, row)))


def _content(run_set: RunSet) -> bytes:
    return (run_set.model_dump_json(indent=1) + "\n").encode()


def _run_set(board: int, row: int, random: np.random.Generator) -> RunSet:
    protocol = PROTOCOLS[board % len(PROTOCOLS)]
    detection = protocol == DETECTION
    teacher = 0.80 - 0.01 * (board % 7) if not detection else 0.42 - 0.01 * (board % 7)
    gain = 0.0 if row == 0 else float(random.uniform(-0.01, 0.05))
    run = _detection_run if detection else _run
    seeds = range(3 + row % 3)
    return RunSet(
        protocol=ProtocolRef(id=protocol, hash=hashlib.sha256(protocol.encode()).hexdigest()),
        method=_method(row),
        teacher=_teacher(board, teacher, detection),
        student=StudentInfo(name=f"student_{board:03d}", parameters=10_000 * (board + 1)),
        track="tuned" if row % 7 == 3 else "general",
        environment=_ELSEWHERE if row % 11 == 5 else _BOTH,
        runs=tuple(run(seed, row, round(teacher - 0.06 + gain, 4), random) for seed in seeds),
        extra_data=row % 29 == 8,
        contact=f"author{row}" if row % 5 == 4 else None,
    )


def _method(row: int) -> MethodInfo:
    name = {0: PLAIN, 1: "KD"}.get(row, f"Method{row:03d}")
    shared: dict[str, Any] = {"name": name, "task_weight": 1.0, "package_version": "0.1.0"}
    if name == PLAIN:
        return MethodInfo(class_path=None, parameters={}, source_sha256=None, teacher="none", **shared)
    family, own = FAMILIES[row % len(FAMILIES)], row % 9 == 6
    return MethodInfo(
        class_path=f"my_method.{name}" if own else f"lightning_kd.methods.{family}.{name.lower()}.{name}",
        parameters={"temperature": 4.0, "weight": 0.1 * row, "layers": {"layer3": "layer3"}},
        source_sha256=hashlib.sha256(name.encode()).hexdigest(),
        citation=CitationInfo(
            title=f"Distillation in {row} ways",
            authors="Doe et al.",
            venue="ICLR",
            year=2000 + row % 26,
            arxiv=f"2001.{row:05d}",
        ),
        licence="Apache-2.0" if own else None,
        **shared,
    )


def _teacher(board: int, headline: float, detection: bool) -> TeacherInfo | DetectionTeacherInfo:
    name, weights = f"teacher_{board:03d}", hashlib.sha256(f"teacher {board}".encode()).hexdigest()
    if detection:
        return DetectionTeacherInfo(name=name, weights_sha256=weights, ap=headline, parameters=5_000_000)
    return TeacherInfo(name=name, weights_sha256=weights, accuracy=headline, parameters=1_000_000)


def _run(seed: int, row: int, headline: float, random: np.random.Generator) -> Run:
    accuracy = round(headline + float(random.normal(scale=0.003)), 4)
    rise, loss = _course(accuracy, random)
    return Run(
        last=Scores(
            accuracy=accuracy,
            nll=round(2.0 * (1 - accuracy), 6),
            ece=round(float(random.uniform(0.01, 0.1)), 6),
            agreement=round(float(random.uniform(0.7, 0.95)), 4),
        ),
        best=Best(accuracy=round(accuracy + 0.001, 4), epoch=EPOCHS - 2),
        curve=Curve(validation_accuracy=rise, train_loss=loss),
        **_shared(seed, row, random),
    )


def _detection_run(seed: int, row: int, headline: float, random: np.random.Generator) -> Run:
    ap = round(headline + float(random.normal(scale=0.003)), 4)
    rise, loss = _course(ap, random)
    return Run(
        last=DetectionScores(
            ap=ap,
            ap_50=round(1.5 * ap, 4),
            ap_75=round(1.05 * ap, 4),
            ap_small=None if row % 13 == 2 else round(0.5 * ap, 4),
            ap_medium=ap,
            ap_large=round(1.2 * ap, 4),
            ar_1=round(0.8 * ap, 4),
            ar_10=ap,
            ar_100=round(1.1 * ap, 4),
            ar_small=None,
            ar_medium=ap,
            ar_large=ap,
        ),
        best=None,
        curve=DetectionCurve(validation_ap=rise, train_loss=loss),
        **_shared(seed, row, random),
    )


def _shared(seed: int, row: int, random: np.random.Generator) -> dict[str, Any]:
    return {
        "seed": seed,
        "predictions_file": f"seed-{seed}.npz",
        "predictions_sha256": hashlib.sha256(f"{row} {seed}".encode()).hexdigest(),
        "seconds": round(float(random.uniform(100, 300)), 1),
        "peak_memory_mb": None if row % 17 == 9 else 500.0 + row,
        "device": "cpu",
        "extra_parameters": 1000 * (row % 3),
    }


def _course(headline: float, random: np.random.Generator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A curve that rises to the headline, and a loss that falls."""
    steps = np.linspace(0.1, 1, EPOCHS)
    noise = random.uniform(0.98, 1, size=EPOCHS)
    return tuple((headline * np.sqrt(steps) * noise).round(4).tolist()), tuple((3.0 - 2.5 * steps).round(4).tolist())


def _verifications(run_set: RunSet, sha256: str, row: int) -> Iterator[VerificationRecord]:
    for level in LEVELS[1 : 1 + row % len(LEVELS)]:
        assert level != "claimed"
        yield VerificationRecord(
            level=level,
            date=_DAY.format(1 + LEVELS.index(level)),
            by="a maintainer",
            run_set_sha256=sha256,
            seeds=tuple(
                SeedFinding(seed=run.seed, claimed=run.last.headline, found=run.last.headline) for run in run_set.runs
            ),
            tolerance=0.0,
            environment=_BOTH,
            package_version="0.1.0",
        )


def _corrections(run_set: RunSet, row: int) -> Iterator[Correction]:
    path = entry_path(run_set)
    prefix = "-".join((run_set.protocol.id, run_set.student.name, run_set.method.name)).lower().replace("_", "")

    def event(number: int, kind: str, **details: Any) -> Correction:
        return Correction(
            id=f"{prefix}-{number}", date=_DAY.format(10 + number), entry=path, kind=kind,
            reason=f"made up: {kind}", by="somebody", **details,
        )  # fmt: skip

    if row % 19 == 12:
        yield event(1, "challenge")
    if row % 19 == 13:
        challenge = event(1, "challenge")
        yield from (challenge, event(2, "dismissal", answers=challenge.id))
    if row % 23 == 15:
        yield event(1, "demotion", badge="predictions checked")
    if row % 31 == 20:
        yield event(1, "withdrawal")


def main() -> None:
    """Write a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    write_entries(options.folder, many_entries(options.count))


if __name__ == "__main__":
    main()
