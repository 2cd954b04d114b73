"""Level two: the kept weights of the students, evaluated anew on the test split."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd_bench.data.base import open_data
from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.predictions import Predictions, read_predictions
from kd_bench.protocol import Pair, Protocol
from kd_bench.results import Run, RunSet
from kd_bench.storage import file_sha256
from kd_bench.submission.sources import library_methods
from kd_bench.tasks.registry import task_named
from kd_bench.training.evaluate import test_logits
from kd_bench.verification.entry_protocol import pair_name, runs_of
from kd_bench.verification.findings import Findings, SeedResult, percent
from kd_bench.verification.tolerance import CHECKPOINT, CHECKPOINT_AGREEMENT, CHECKPOINT_CONFIDENCE
from kd_bench.weights import load_student, weights_path
from lightning_kd import DistillationMethod

MAX_BYTES = 4_000_000_000
"""Most bytes of a file of weights."""


@dataclass(frozen=True)
class _Evaluated:
    """What weights give on the test split.

    Attributes:
        headline: accuracy or AP.
        agreement: share of samples whose class is the stored one; ``None`` for detectors.
        confidence: mean difference from the stored confidence; ``None`` for detectors.
    """

    headline: float
    agreement: float | None = None
    confidence: float | None = None


def verify_checkpoint(
    entry: Entry, protocol: Protocol, weights: Path | None, seeds: Sequence[int] | None = None
) -> Findings:
    """Evaluate kept weights and compare with what is stated and with the stored predictions.

    Nothing is unpickled, and no code of the method is run.

    Args:
        entry: with a folder whose predictions have been verified.
        protocol: the entry's.
        weights: the output directory of ``bench run --keep-weights``, or a folder with ``seed-<N>.safetensors``.
        seeds: which seeds; by default all.

    Raises:
        UserError: if no weights are given, those of a seed are missing, the entry has no such seed, or its method
            deploys another network than the student.
    """
    if weights is None:
        raise UserError(
            "the level checkpoint needs the weights of the students: give --weights DIR, the output of `lightning-kd "
            "bench run … --keep-weights` or a folder with seed-<N>.safetensors."
        )
    if not weights.is_dir():
        raise UserError(f"there is no folder {weights}; expected one with the weights of the students.")
    run_set = entry.run_set
    _check_deployed(run_set)
    paths = [(run, _plain_file(_find(weights, run_set, run))) for run in runs_of(run_set, seeds)]
    results, problems, remarks, obstacles = [], [], [], []
    for run, path in paths:
        try:
            sha256 = file_sha256(path)
            if run.weights_sha256 not in (None, sha256):
                problems.append(
                    f"seed {run.seed}: {path} is another file than the result says: its sha256 is {sha256[:12]}…, "
                    f"stated is {str(run.weights_sha256)[:12]}…"
                )
                results.append(SeedResult(run.seed, run.last.headline, None))
                continue
            found = _evaluate(entry, protocol, run, path, sha256)
        except (UserError, OSError) as error:
            obstacles.append(f"seed {run.seed}: {error}")
            results.append(SeedResult(run.seed, run.last.headline, None))
            continue
        results.append(SeedResult(run.seed, run.last.headline, found.headline, found.agreement))
        problems += _compared(run, found)
        if run.weights_sha256 is None:
            remarks.append(
                f"seed {run.seed}: the run set does not state the hash of its weights; evaluated were those with "
                f"{sha256[:12]}…"
            )
    return Findings(tuple(results), tuple(problems), tuple(remarks), CHECKPOINT, obstacles=tuple(obstacles))


def _check_deployed(run_set: RunSet) -> None:
    cls = library_methods().get(str(run_set.method.class_path))
    if cls is not None and cls.deploy is not DistillationMethod.deploy:
        raise UserError(
            f"{run_set.method.name} deploys a network of its own around the student, which cannot be made from the "
            "student's name; such a result can be verified by its predictions, or trained again (--level retrain)."
        )


def _find(weights: Path, run_set: RunSet, run: Run) -> Path:
    loose = weights / f"seed-{run.seed}.safetensors"
    if loose.exists():
        return loose
    return weights_path(
        weights, run_set.protocol.id, run_set.method.name, run_set.student.name, run_set.teacher.name, run.seed
    )


def _plain_file(path: Path) -> Path:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"there are no weights {path}; --seeds chooses the seeds that are evaluated.") from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not a plain file.")
    if status.st_size > MAX_BYTES:
        raise UserError(f"{path} has {status.st_size:,} bytes, at most {MAX_BYTES:,} are accepted.")
    return path


def _evaluate(entry: Entry, protocol: Protocol, run: Run, path: Path, sha256: str) -> _Evaluated:
    pair = protocol.pairs[pair_name(protocol, entry.run_set)]
    network = load_student(protocol, pair, path, sha256)
    network = network.to(_device(protocol))
    if protocol.task == "classification":
        return _classify(entry, protocol, pair, run, network)
    data = open_data(protocol.data, protocol.recipe_for(pair.student), 0)
    return _Evaluated(task_named(protocol.task).teacher_info(pair.student, "0" * 64, network, data).headline)


def _classify(entry: Entry, protocol: Protocol, pair: Pair, run: Run, network: nn.Module) -> _Evaluated:
    assert entry.folder is not None
    data = open_data(protocol.data, protocol.recipe_for(pair.student), 0)
    logits, labels = test_logits(network, data)
    # the teacher is not evaluated again, and what is compared does not depend on it
    found = Predictions.from_logits(logits, labels, logits)
    stored = read_predictions(entry.folder / run.predictions_file)
    if len(stored.predicted) != len(found.predicted):
        raise UserError(f"has {len(stored.predicted):,} stored predictions of {len(found.predicted):,} test samples.")
    difference = np.abs(found.confidence.astype(np.float64) - stored.confidence.astype(np.float64))
    return _Evaluated(found.accuracy, float(np.mean(found.predicted == stored.predicted)), float(difference.mean()))


def _device(protocol: Protocol) -> torch.device:
    return torch.device("cuda" if protocol.accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def _compared(run: Run, found: _Evaluated) -> Iterator[str]:
    claimed = run.last.headline
    if abs(found.headline - claimed) > CHECKPOINT:
        yield (
            f"seed {run.seed}: its weights have {percent(found.headline)} %, claimed are {percent(claimed)} %; a "
            f"difference of {percent(CHECKPOINT)} points is accepted"
        )
    if found.agreement is not None and found.agreement < CHECKPOINT_AGREEMENT:
        yield (
            f"seed {run.seed}: its weights predict the stored class on {percent(found.agreement)} % of the test set; "
            f"at least {100 * CHECKPOINT_AGREEMENT} % are expected: they are those of another network"
        )
    elif found.confidence is not None and found.confidence > CHECKPOINT_CONFIDENCE:
        yield (
            f"seed {run.seed}: its weights are {found.confidence:.4f} more or less confident than stored, on average; "
            f"at most {CHECKPOINT_CONFIDENCE} is accepted: they are those of another network"
        )
