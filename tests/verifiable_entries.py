"""Entries of a protocol of seconds, really trained, and honest or forged as a test needs them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kd_bench.collect import collect
from kd_bench.options import LaunchOptions, RunOptions
from kd_bench.own_methods import with_own_methods
from kd_bench.predictions import Predictions, read_predictions, write_predictions
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.results import RunSet, Scores
from kd_bench.run_set_files import RUN_SET_FILE, read_run_set
from kd_bench.runner import RunReport, plan
from kd_bench.storage import file_sha256, write_model
from kd_bench.submission import truth
from kd_bench.training.evaluate import score
from kd_bench.verification import entry_protocol, retrain
from kd_bench.worker import run_item
from own_method import write_method
from tiny_benchmark import tiny_protocol

OWN = "LogitMatching"
PAIR = "mini_cnn4__mini_resnet14"


def train_entries(output: Path) -> Path:
    """Train the plain student, KD and a method of one's own, with weights; returns the output directory."""
    protocol = with_own_methods(tiny_protocol(), [write_method(output / "mine")], {"scale": 2.0}, 0.5)
    report = run_here(protocol, output=output, options=RunOptions(keep_weights=True))
    assert [run_set.method.name for run_set in report.run_sets] == ["plain", "KD", OWN]
    return output


def run_here(
    protocol: Protocol,
    *,
    output: Path,
    methods: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    options: RunOptions | None = None,
    launch: LaunchOptions | None = None,
) -> RunReport:
    """Like :func:`kd_bench.runner.run_protocol`, in this process."""
    start = time.perf_counter()
    items = plan(protocol, output, methods=methods, pairs=pairs, seeds=seeds, options=options)
    pending = [item for item in items if item.load() is None]
    for item in pending:
        run_item(item)
    seconds = time.perf_counter() - start
    skipped = len(items) - len(pending)
    return RunReport(protocol, output / "results", tuple(collect(items)), len(pending), skipped, (), seconds)


def publish(output: Path, leaderboards: Path) -> Path:
    """Copy the entries of an output into leaderboards; returns their results of the protocol."""
    shutil.copytree(output / "results", leaderboards / "results")
    return leaderboards / "results" / "digits-tiny"


def know_the_protocol(monkeypatch: pytest.MonkeyPatch, protocol: Protocol | None = None) -> None:
    """Let the tiny protocol be one that comes with the benchmark, and train in this process."""

    def load(name: str) -> Protocol:
        return (protocol or tiny_protocol()) if name == "digits-tiny" else load_protocol(name)

    for module in (entry_protocol, truth):
        monkeypatch.setattr(module, "load_protocol", load)
    monkeypatch.setattr(retrain, "run_protocol", run_here)


def change(folder: Path, **update: Any) -> RunSet:
    """Change what a run set states."""
    run_set = read_run_set(folder / RUN_SET_FILE).model_copy(update=update)
    write_model(folder / RUN_SET_FILE, run_set)
    return run_set


def change_method(folder: Path, **update: Any) -> None:
    """Change what a run set states of its method."""
    method = read_run_set(folder / RUN_SET_FILE).method
    change(folder, method=method.model_copy(update=update))


def change_run(folder: Path, seed: int, **update: Any) -> None:
    """Change what a run set states of a seed."""
    runs = read_run_set(folder / RUN_SET_FILE).runs
    change(folder, runs=tuple(run.model_copy(update=update) if run.seed == seed else run for run in runs))


def forge(folder: Path, forged: Callable[[Predictions], Predictions], seeds: Sequence[int] = (0, 1)) -> None:
    """Replace predictions, and let hashes and scores follow from them: a forgery that is in itself consistent."""
    for seed in seeds:
        path = folder / f"seed-{seed}.npz"
        write_predictions(path, forged(read_predictions(path)))
        last = score(read_predictions(path))
        run = next(run for run in read_run_set(folder / RUN_SET_FILE).runs if run.seed == seed)
        assert run.best is not None
        best = run.best.model_copy(update={"accuracy": max(run.best.accuracy, last.accuracy)})
        change_run(folder, seed, last=last, best=best, predictions_sha256=file_sha256(path))


def raised(predictions: Predictions, share: float = 0.15) -> Predictions:
    """Predictions that are right on a larger share of the samples."""
    wrong = np.flatnonzero(~predictions.correct)[: round(share * len(predictions.label))]
    predicted, log = predictions.predicted.copy(), predictions.label_log_probability.copy()
    predicted[wrong] = predictions.label[wrong]
    log[wrong] = np.log(predictions.confidence[wrong])
    return replace(predictions, predicted=predicted, label_log_probability=log)


def scores_of(folder: Path, seed: int) -> Scores:
    """What a run set states of a seed."""
    (run,) = [run for run in read_run_set(folder / RUN_SET_FILE).runs if run.seed == seed]
    assert isinstance(run.last, Scores)
    return run.last
