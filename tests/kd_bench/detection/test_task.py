"""The way of a detector through the benchmark: training, detections, scores, tables and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from kd_bench.collect import collect
from kd_bench.data.base import open_data
from kd_bench.detection.detections import read_detections
from kd_bench.detection.digit_scenes import DigitScenes
from kd_bench.detection.evaluate import evaluate
from kd_bench.detection.models import create_network
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.layout import TEACHER_DETECTIONS
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.page.detections import draw_figures
from kd_bench.leaderboard.table import leaderboard_table
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.results import DetectionScores, DetectionTeacherInfo, RunSet
from kd_bench.run_set_files import load_run_sets
from kd_bench.runner import plan
from kd_bench.selection import PairNames, Selection
from kd_bench.tasks.registry import task_named
from kd_bench.variants import miniature
from kd_bench.worker import run_item
from pydantic import ValidationError
from rich.console import Console

from lightning_kd import Distillation
from lightning_kd.detection import Detector
from lightning_kd.methods import PKD

SCENES = {"height": 48, "width": 64, "train": 16, "validation": 6, "test": 8, "largest": 24}
RECIPE = {
    "epochs": 2,
    "batch_size": 4,
    "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.01},
    "schedule": {"name": "constant"},
    "augmentation": {"flip": 0.0},
}


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    """A handful of scenes, a one-stage and a two-stage pair."""
    parameters = {"scenes": SCENES, "root": str(tmp_path_factory.mktemp("scenes"))}
    checksum = DigitScenes(4, 0, {}, **parameters).checksum()
    content = {
        "id": "scenes-tiny",
        "title": "Scenes",
        "task": "detection",
        "accelerator": "cpu",
        "data": {
            "class": "kd_bench.detection.digit_scenes.DigitScenes",
            "parameters": parameters,
            "checksum": checksum,
        },
        "pairs": {
            "one-stage": {"student": "small_retinanet_8", "teacher": "small_retinanet_24"},
            "two-stage": {"student": "small_fasterrcnn_8", "teacher": "small_fasterrcnn_24"},
        },
        "teacher_recipe": {**RECIPE, "epochs": 1},
        "student_recipe": RECIPE,
        "methods": {
            "plain": {},
            "PKD": {"class": "PKD", "parameters": {"weight": 1.0}},
            "DKDDet": {"class": "DKDDet", "only_on": ["two-stage"]},
        },
        "seeds": [0, 1],
        "metrics": ["ap", "ar"],
    }
    return Protocol.model_validate_json(json.dumps(content))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def run_sets(protocol: Protocol, output: Path) -> list[RunSet]:
    """Both rows of the one-stage pair, one seed."""
    items = [Item(protocol, "one-stage", method, 0, output) for method in ("plain", "PKD")]
    for item in items:
        run_item(item)
    return collect(items)


def test_the_result_is_what_the_kept_detections_score(protocol: Protocol, output: Path, run_sets: list[RunSet]) -> None:
    data = DigitScenes(4, 0, {}, **protocol.data.parameters)
    truth = data.truth("test")
    for run_set in load_run_sets(output / "results"):
        (run,) = run_set.runs
        folder = output / "results" / protocol.id / run_set.method.name / run_set.pair
        metrics = evaluate(truth, read_detections(folder / run.predictions_file, truth))
        assert isinstance(run.last, DetectionScores)
        assert run.last.model_dump() == {name: getattr(metrics, name) for name in DetectionScores.model_fields}
        assert isinstance(run_set.teacher, DetectionTeacherInfo)
        assert run_set.teacher.ap == evaluate(truth, read_detections(folder / TEACHER_DETECTIONS, truth)).ap
        assert run_set.teacher.truth_sha256 == truth.checksum()
        assert run.best is None
        assert run.curve.validation is not None
        assert len(run.curve.validation) == len(run.curve.train_loss) == 2


def test_the_numbers_depend_on_the_item_alone(protocol: Protocol, output: Path, run_sets: list[RunSet]) -> None:
    item = Item(protocol, "one-stage", "PKD", 0, output)
    (first,) = next(run_set for run_set in run_sets if run_set.method.name == "PKD").runs
    again = run_item(item).run
    assert (again.last, again.curve, again.predictions_sha256) == (first.last, first.curve, first.predictions_sha256)
    (plain,) = next(run_set for run_set in run_sets if run_set.method.name == "plain").runs
    assert plain.curve != first.curve


@pytest.mark.slow
def test_methods_for_regions_run_on_the_pair_that_has_them(protocol: Protocol, output: Path) -> None:
    result = run_item(Item(protocol, "two-stage", "DKDDet", 0, output))
    assert isinstance(result.run.last, DetectionScores)


def test_methods_are_planned_on_their_pairs_only(protocol: Protocol, tmp_path: Path) -> None:
    planned = {(item.pair_name, item.method_name) for item in plan(protocol, tmp_path)}
    assert ("two-stage", "DKDDet") in planned
    assert ("one-stage", "DKDDet") not in planned
    assert len(planned) == 5
    with pytest.raises(UserError, match=r"nothing to run on the pairs one-stage: DKDDet \(only two-stage\)"):
        plan(protocol, tmp_path, methods=["DKDDet"], pairs=["one-stage"])
    pairs = {name: PairNames(student=pair.student, teacher=pair.teacher) for name, pair in protocol.pairs.items()}
    selection = Selection(
        protocol={"id": protocol.id, "hash": protocol.hash},
        pairs=pairs,
        methods=("plain", "DKDDet"),
        seeds=(0,),
        only_on={"DKDDet": ("two-stage",)},
    )
    assert list(selection.keys()) == [
        ("one-stage", "plain", 0),
        ("two-stage", "plain", 0),
        ("two-stage", "DKDDet", 0),
    ]


def test_a_pair_that_there_is_not_is_refused(protocol: Protocol) -> None:
    content = json.loads(protocol.model_dump_json(by_alias=True, exclude_unset=True))
    content["methods"]["PKD"]["only_on"] = ["three-stage"]
    with pytest.raises(ValidationError, match=r"methods\.PKD\.only_on: there is no pair three-stage"):
        Protocol.model_validate_json(json.dumps(content))


def test_rows_that_detectors_cannot_have_are_refused(protocol: Protocol, tmp_path: Path) -> None:
    row = MethodRow.model_validate({"class": "DML", "teacher": "scratch"})
    changed = protocol.model_copy(update={"methods": {**protocol.methods, "DML": row}})
    with pytest.raises(UserError, match=r"DML asks for a teacher 'scratch'; detectors are taught by the pair's"):
        plan(changed, tmp_path, methods=["DML"])
    classifier = changed.model_copy(update={"task": "classification"})
    with pytest.raises(UserError, match=r"has task: classification, but .*DigitScenes is data for detection"):
        plan(classifier, tmp_path, methods=["plain"])
    unknown = protocol.model_copy(
        update={"pairs": {"a": protocol.pairs["one-stage"].model_copy(update={"student": "small_retinanet"})}}
    )
    with pytest.raises(UserError, match="small_retinanet_8"):
        plan(unknown, tmp_path, methods=["plain"])


@pytest.mark.filterwarnings("ignore")
def test_the_data_serves_a_module_of_ones_own(protocol: Protocol) -> None:
    """A method's first look at a batch takes what the sampler asks the images for, and leaves the sampler as it is."""

    class Seen(L.Callback):
        def __init__(self) -> None:
            self.images: list[torch.Tensor] = []

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.images += batch[0]

    data = DigitScenes(4, 0, {"flip": 0.0}, **protocol.data.parameters)
    student, teacher = (Detector(create_network(f"small_retinanet_{width}", 11)) for width in (8, 24))
    seen = Seen()
    trainer = L.Trainer(
        max_steps=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[Distillation(teacher, PKD()), seen],
    )
    trainer.fit(student, datamodule=data)
    assert torch.isfinite(trainer.callback_metrics["kd/PKD"])
    images, _ = next(iter(data.train_dataloader()))
    assert all(torch.equal(one, other) for one, other in zip(seen.images, images, strict=True))


def test_networks_of_torchvision_have_a_prefix() -> None:
    network = create_network("torchvision:fcos_resnet18_fpn", 4, min_size=(48, 64), max_size=96)
    assert network.model.transform.min_size == (48, 64)
    assert network.levels == 5
    with pytest.raises(UserError, match="expected retinanet, fasterrcnn or fcos, a backbone"):
        create_network("torchvision:yolo", 4)


def test_images_have_the_size_that_the_data_says(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DigitScenes(4, 0, {}, **protocol.data.parameters)
    task = task_named("detection")
    assert task.create("small_fcos_8", data).model.transform.min_size == (96,)
    data.scale = (32, 40), 64
    transform = task.create("small_fcos_8", data).model.transform
    assert (transform.min_size, transform.max_size) == ((32, 40), 64)


def test_the_miniature_needs_no_more_than_a_handful_of_scenes(protocol: Protocol, tmp_path: Path) -> None:
    large = protocol.model_copy(
        update={"data": protocol.data.model_copy(update={"parameters": {}, "checksum": "0" * 64})}
    )
    small = miniature(large, tmp_path)
    assert len(open_data(small.data, small.student_recipe, 0).truth("test")) == 8
    assert small.student_recipe.epochs == 1


def test_the_table_has_the_scores_of_detectors(run_sets: list[RunSet]) -> None:
    console = Console(width=100, record=True)
    console.print(leaderboard_table(run_sets))
    text = console.export_text()
    assert all(len(line) <= 100 for line in text.splitlines())
    for expected in ("AP %", "AP50", "AP75", "against plain", "test AP after the last epoch"):
        assert expected in " ".join(text.split())
    assert "ECE" not in text


def test_the_page_shows_curves_and_pictures(protocol: Protocol, output: Path, run_sets: list[RunSet]) -> None:
    data = DigitScenes(4, 0, {}, **protocol.data.parameters)
    entries = load_entries(output / "results")
    figures = draw_figures(entries, data)
    assert figures.curves.count("<polyline") == 3  # the teacher, the plain student, the row
    assert len(figures.pictures) == 3
    assert all(picture.source.startswith("data:image/png;base64,") for picture in figures.pictures)
    page = build_page(entries, output / "index.html").read_text()
    assert "AP50" in page
    assert "Test AP after the last epoch (%)" in page
    # the protocol is not among the installed ones, so its images are not looked for
    assert "img-src" not in page
    path = output / "results" / protocol.id / "plain" / entries[0].run_set.pair / "seed-0.npz"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept[:-100])
        with pytest.raises(UserError, match="cannot read the detections"):
            draw_figures(entries, data)
    finally:
        path.write_bytes(kept)
