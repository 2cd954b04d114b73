"""The whole path of the large protocols, on files in the real formats."""

from __future__ import annotations

from pathlib import Path

import pytest
from kd_bench.data import fashion_files
from kd_bench.data.base import open_data
from kd_bench.detection.data import DetectionData
from kd_bench.protocol import list_protocols, load_protocol
from kd_bench.run_set_files import load_run_sets
from kd_bench.runner import plan, run_benchmark, run_protocol
from kd_bench.variants import miniature
from kd_bench.worker import run_item


def test_the_miniature_never_mixes_with_the_real_protocol(tmp_path: Path) -> None:
    full = load_protocol("cifar100-v1")
    small = miniature(full, tmp_path)
    assert small.id == "cifar100-v1-miniature"
    assert small.hash != full.hash
    assert small.data.class_path == full.data.class_path
    assert small.pairs == full.pairs
    assert set(small.teachers) == set(full.teachers)
    assert small.recipe_for("shufflenet_v1").optimizer == full.recipe_for("shufflenet_v1").optimizer
    assert miniature(full, tmp_path).hash == small.hash


def test_a_row_of_cifar100_from_archive_and_checkpoint_to_scores(tmp_path: Path) -> None:
    small = miniature(
        load_protocol("cifar100-v1").model_copy(
            update={
                "pairs": {"resnet56-resnet20": load_protocol("cifar100-v1").pairs["resnet56-resnet20"]},
                "teachers": {"resnet56": load_protocol("cifar100-v1").teachers["resnet56"]},
                "student_recipes": {},
            }
        ),
        tmp_path / "miniature",
    )
    (item,) = plan(small, tmp_path / "output", methods=["DKD"])
    result = run_item(item)
    assert result.run.curve.validation_accuracy is None
    assert len(result.run.curve.train_loss) == 1
    assert result.method.warmup == 20
    assert result.teacher.parameters == 861_620
    assert result.student.parameters == 278_324
    assert item.load() == result


@pytest.mark.parametrize("protocol_id", [protocol.id for protocol in list_protocols()])
def test_every_protocol_has_a_small_one(protocol_id: str, tmp_path: Path) -> None:
    full = load_protocol(protocol_id)
    small = miniature(full.model_copy(update={"teachers": {}}), tmp_path)
    data = open_data(small.data, small.student_recipe, 0)
    assert small.student_recipe.epochs == 1
    assert len(data.train_dataloader()) <= 120
    if isinstance(data, DetectionData):
        assert len(data.categories) == (10 if protocol_id.startswith("digits") else 80)
        return
    assert data.num_classes == (10 if protocol_id.startswith(("digits", "fashion", "imagenet")) else 100)


def test_fashion_needs_no_data_for_its_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_files, "DEBIAN", tmp_path / "nowhere")
    report = run_protocol(miniature(load_protocol("fashion-v1"), tmp_path / "data"), output=tmp_path, methods=["plain"])
    assert not report.failures
    assert len(report.run_sets) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("protocol_id", "pairs"), [("cifar100-v1", 17), ("imagenet-v1", 2)])
def test_every_pair_and_the_core_methods_to_a_table(protocol_id: str, pairs: int, tmp_path: Path) -> None:
    report = run_benchmark(protocol_id, output=tmp_path, miniature=True)
    assert not report.failures
    core = load_protocol(protocol_id).core
    assert len(core) >= 6  # the plain student and five methods
    found = {(run_set.pair, run_set.method.name) for run_set in load_run_sets(report.results)}
    assert len(found) == pairs * len(core)
