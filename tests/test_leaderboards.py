"""The committed results: whole, in their place, of the present protocol, and recomputable from their predictions."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from kd_bench.data.base import open_data
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.data import DetectionData
from kd_bench.detection.detections import read_detections
from kd_bench.detection.evaluate import evaluate
from kd_bench.entries import load_entries
from kd_bench.leaderboard.page import build_page
from kd_bench.predictions import read_predictions
from kd_bench.protocol import load_protocol
from kd_bench.reported import shipped_reported
from kd_bench.results import DetectionScores, RunSet, Scores
from kd_bench.run_set_files import load_run_sets, run_set_path
from kd_bench.storage import file_sha256
from kd_bench.training.evaluate import score

LEADERBOARDS = Path(__file__).parents[1] / "leaderboards"
RESULTS = LEADERBOARDS / "results"


def committed() -> list[RunSet]:
    return load_run_sets(RESULTS)


@cache
def truth_of(protocol_id: str) -> Annotations:
    protocol = load_protocol(protocol_id)
    data = open_data(protocol.data, protocol.student_recipe, 0)
    assert isinstance(data, DetectionData)
    return data.truth("test")


def recomputed(run_set: RunSet, predictions: Path) -> Scores | DetectionScores:
    if run_set.task == "classification":
        return score(read_predictions(predictions))
    truth = truth_of(run_set.protocol.id)
    metrics = evaluate(truth, read_detections(predictions, truth))
    return DetectionScores(**{name: getattr(metrics, name) for name in DetectionScores.model_fields})


@pytest.mark.parametrize("run_set", committed(), ids=lambda one: f"{one.protocol.id}-{one.method.name}")
def test_scores_follow_from_the_predictions(run_set: RunSet) -> None:
    assert run_set.protocol.hash == load_protocol(run_set.protocol.id).hash
    folder = run_set_path(
        RESULTS, run_set.protocol.id, run_set.method.name, run_set.student.name, run_set.teacher.name
    ).parent
    assert len({run.seed for run in run_set.runs}) >= 3
    for run in run_set.runs:
        predictions = folder / run.predictions_file
        assert file_sha256(predictions) == run.predictions_sha256
        assert recomputed(run_set, predictions) == run.last


def test_every_row_of_the_embedded_protocol_is_there() -> None:
    rows = {run_set.method.name for run_set in committed() if run_set.protocol.id == "digits-v1"}
    assert set(load_protocol("digits-v1").methods) <= rows


def test_the_leaderboard_for_a_cpu_has_its_rows_and_seeds() -> None:
    found = {run_set.method.name: run_set for run_set in committed() if run_set.protocol.id == "fashion-v1"}
    assert set(load_protocol("fashion-v1").methods) <= set(found)
    assert len(found) - 1 >= 20
    assert all(run_set.seeds == (0, 1, 2) for run_set in found.values())


def test_detectors_have_their_rows_and_seeds_and_a_teacher_that_can_teach() -> None:
    protocol = load_protocol("digits-detection-v1")
    found = [run_set for run_set in committed() if run_set.protocol.id == protocol.id]
    rows = {(run_set.method.name, run_set.student.name) for run_set in found}
    core = {
        (name, pair.student)
        for name in protocol.core
        for key, pair in protocol.pairs.items()
        if protocol.methods[name].runs_on(key)
    }
    assert core <= rows
    assert all(run_set.seeds == (0, 1, 2) for run_set in found)
    for run_set in found:
        if run_set.method.class_path is None:
            assert min(run_set.teacher.headline - headline for headline in run_set.headlines()) > 0.05


def boards_of(page: Path) -> dict[str, set[str]]:
    """Protocol and pair → the methods that a page shows of it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    methods = iter(data["rows"]["method"])
    return {board["id"]: set(islice(methods, board["count"])) for board in data["boards"]}


def test_the_committed_page_is_what_the_committed_results_produce(tmp_path: Path) -> None:
    page = LEADERBOARDS / "site" / "index.html"
    shown = boards_of(page)
    # a submission adds entries and leaves the page to a maintainer's `make site`
    entries = [
        entry
        for entry in load_entries(LEADERBOARDS)
        if entry.run_set.method.name in shown.get(f"{entry.run_set.protocol.id}/{entry.run_set.pair}", ())
    ]
    assert len(entries) == sum(map(len, shown.values())) >= 91
    assert build_page(entries, tmp_path / "index.html", reported=shipped_reported()).read_bytes() == page.read_bytes()
