from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kd_bench.errors import UserError
from kd_bench.results import RunSet
from kd_bench.run_set_files import load_run_sets, run_set_path
from kd_bench.storage import write_model
from synthetic_results import write_results, write_run_set


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _one(directory: Path) -> Path:
    write_run_set(directory, "KD", "logits")
    return run_set_path(directory, "digits-v1", "KD", "mini_cnn4", "mini_resnet14")


def test_written_run_sets_are_read_back(tmp_path: Path) -> None:
    written = write_results(tmp_path)
    found = load_run_sets(tmp_path)
    assert sorted(found, key=lambda run_set: run_set.method.name) == sorted(
        written, key=lambda run_set: run_set.method.name
    )


def test_a_folder_below_can_be_read_alone(tmp_path: Path) -> None:
    write_results(tmp_path)
    assert [run_set.method.name for run_set in load_run_sets(tmp_path / "digits-v1" / "DKD")] == ["DKD"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content.update(mean=0.9), "mean: Extra inputs"),
        (lambda content: content.update(schema_version=2), "schema_version"),
        (lambda content: content["runs"].reverse(), "sorted by seed"),
        (lambda content: content["runs"].append(content["runs"][-1]), "one run a seed"),
        (lambda content: content["runs"].clear(), "runs"),
        (lambda content: content["runs"][0].update(predictions_file="../../x.npz"), "predictions_file"),
        (lambda content: content["runs"][0]["best"].update(accuracy=0.1), "below last.accuracy"),
        (lambda content: content["runs"][0]["best"].update(epoch=2), "only 2 epochs"),
        (lambda content: content["runs"][0]["curve"]["train_loss"].pop(), "one value per epoch"),
        (lambda content: content["method"].update(parameters={"a": ["x" * 30_000]}), "20,000 characters"),
        (lambda content: content["method"].update(name="../KD"), "method.name"),
        (lambda content: content.update(verification="trusted"), "verification"),
    ],
)
def test_an_edited_file_is_refused(change: Callable[[dict[str, Any]], object], problem: str, tmp_path: Path) -> None:
    path = _one(tmp_path)
    _edit(path, change)
    with pytest.raises(UserError, match=problem):
        load_run_sets(tmp_path)


def test_infinite_parameters_are_refused(tmp_path: Path) -> None:
    path = _one(tmp_path)
    path.write_text(path.read_text().replace('"temperature": 4.0', '"temperature": 1e999'))
    with pytest.raises(UserError, match="finite"):
        load_run_sets(tmp_path)


def test_a_moved_file_is_refused(tmp_path: Path) -> None:
    path = _one(tmp_path)
    moved = tmp_path / "digits-v1" / "DKD" / path.parent.name / path.name
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    with pytest.raises(UserError, match=r"wrong folder.*digits-v1/KD/.*digits-v1/DKD/"):
        load_run_sets(tmp_path)


def test_results_of_two_recipes_are_not_mixed(tmp_path: Path) -> None:
    run_set = write_run_set(tmp_path, "KD", "logits")
    write_run_set(tmp_path, "DKD", "logits")
    other: RunSet = run_set.model_copy(update={"protocol": run_set.protocol.model_copy(update={"hash": "f" * 64})})
    write_model(run_set_path(tmp_path, "digits-v1", "KD", "mini_cnn4", "mini_resnet14"), other)
    with pytest.raises(UserError, match=r"another recipe of 'digits-v1' \(hash ffffffffffff\)"):
        load_run_sets(tmp_path)


def test_an_empty_or_missing_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results below"):
        load_run_sets(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        load_run_sets(tmp_path / "none")


def test_model_prefixes_make_safe_folder_names() -> None:
    path = run_set_path(Path("results"), "p-v1", "KD", "timm:resnet18.a1_in1k", "torchvision:resnet50")
    assert path == Path("results/p-v1/KD/timm-resnet18.a1_in1k__torchvision-resnet50/run_set.json")
