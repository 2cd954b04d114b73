"""Students that are kept, and networks made of them again."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from kd_bench.collect import collect
from kd_bench.data.base import open_data
from kd_bench.errors import UserError
from kd_bench.items import Item, ItemResult
from kd_bench.miniature import write_data
from kd_bench.options import LaunchOptions, RunOptions
from kd_bench.predictions import Predictions, read_predictions
from kd_bench.protocol import MethodRow, Pair, Protocol, load_protocol
from kd_bench.run_set_files import load_run_sets
from kd_bench.runner import run_protocol
from kd_bench.storage import file_sha256
from kd_bench.tasks.registry import task_named
from kd_bench.training.evaluate import test_logits as logits_of
from kd_bench.weights import keep_weights, load_student, weights_path
from kd_bench.worker import run_item
from torch import nn

KEEPING = RunOptions(keep_weights=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory that the tests of this module share, for its teacher."""
    return tmp_path_factory.mktemp("output")


def _item(protocol: Protocol, output: Path, method: str = "KD", seed: int = 0, keep: bool = True) -> Item:
    return Item(protocol, "resnet14-cnn4", method, seed, output, RunOptions(keep_weights=keep))


def _numbers(result: ItemResult) -> tuple[object, ...]:
    run = result.run
    return run.last, run.best, run.curve, run.predictions_sha256


def _load(item: Item) -> nn.Module:
    sha256 = run_item(item).run.weights_sha256
    assert sha256 is not None
    return load_student(item.protocol, item.pair, item.weights, sha256)


@pytest.fixture
def untrained(tiny: Protocol, tmp_path: Path) -> tuple[Pair, nn.Module, Path]:
    """The pair of the protocol, a student of it, and where to write."""
    pair = tiny.pairs["resnet14-cnn4"]
    data = open_data(tiny.data, tiny.student_recipe, 0)
    return pair, task_named(tiny.task).create(pair.student, data), tmp_path / "seed-0.safetensors"


@pytest.mark.parametrize("method", ["plain", "FitNet"])
def test_a_kept_student_predicts_what_was_scored(method: str, tiny: Protocol, place: Path) -> None:
    item = _item(tiny, place, method)
    network = _load(item)
    assert not network.training
    data = open_data(tiny.data, item.recipe, 0)
    logits, labels = logits_of(network, data)
    kept = read_predictions(item.predictions)
    again = Predictions.from_logits(logits, labels, torch.zeros_like(logits))
    assert (again.predicted == kept.predicted).all()
    assert (again.confidence == kept.confidence).all()


def test_weights_lie_where_others_look_for_them(tiny: Protocol, place: Path) -> None:
    item = _item(tiny, place, "plain")
    result = run_item(item)
    pair = item.pair
    path = weights_path(place, tiny.id, "plain", pair.student, pair.teacher, 0)
    assert path == item.weights == place / "weights/digits-tiny/plain/mini_cnn4__mini_resnet14/seed-0.safetensors"
    assert result.run.weights_sha256 == file_sha256(path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_keeping_changes_no_number(tiny: Protocol, tmp_path: Path) -> None:
    without = run_item(_item(tiny, tmp_path, keep=False))
    assert without.run.weights_sha256 is None
    assert not (tmp_path / "weights").exists()
    kept = run_item(_item(tiny, tmp_path))
    assert _numbers(kept) == _numbers(without)
    again = run_item(_item(tiny, tmp_path))
    assert again.run.weights_sha256 == kept.run.weights_sha256


def test_an_item_without_weights_is_done_again_if_they_are_asked_for(tiny: Protocol, tmp_path: Path) -> None:
    item = _item(tiny, tmp_path)
    careless = replace(item, options=RunOptions())
    run_item(careless)
    assert careless.load() is not None
    assert item.load() is None
    assert item.measured() == careless.load()
    run_item(item)
    assert item.load() == careless.load() is not None
    item.weights.write_bytes(b"damaged")
    assert item.load() is None
    assert careless.load() is not None
    item.weights.unlink()
    assert item.load() is None


def test_seeds_without_weights_stay_in_the_run_set(tiny: Protocol, tmp_path: Path) -> None:
    run_item(_item(tiny, tmp_path, seed=0, keep=False))
    run_item(_item(tiny, tmp_path, seed=1))
    (run_set,) = collect([_item(tiny, tmp_path, seed=1)])
    assert [run.weights_sha256 is None for run in run_set.runs] == [True, False]


@pytest.mark.slow
def test_a_benchmark_keeps_the_students_of_all_runs(tiny: Protocol, place: Path) -> None:
    def run(options: RunOptions) -> tuple[int, int]:
        report = run_protocol(
            tiny, output=place / "whole", methods=["plain"], options=options, launch=LaunchOptions(workers=2)
        )
        assert report.failures == ()
        return report.done, report.skipped

    assert run(RunOptions()) == (2, 0)
    (before,) = load_run_sets(place / "whole" / "results")
    assert run(KEEPING) == (2, 0)
    assert run(KEEPING) == run(RunOptions()) == (0, 2)
    (after,) = load_run_sets(place / "whole" / "results")
    assert [run.last for run in after.runs] == [run.last for run in before.runs]
    paths = sorted((place / "whole" / "weights").rglob("*.safetensors"))
    assert [file_sha256(path) for path in paths] == [run.weights_sha256 for run in after.runs]


def test_a_network_around_the_student_is_kept_but_not_made_again(tiny: Protocol, place: Path) -> None:
    rows = {"SimKD": MethodRow.model_validate({"class": "SimKD", "task_weight": 0.0})}
    item = _item(tiny.model_copy(update={"methods": rows}), place, "SimKD")
    with pytest.raises(UserError, match=r"another network than the student mini_cnn4: .* is missing.*as SimKD does"):
        _load(item)
    assert item.load() is not None


def test_two_names_of_the_same_memory_can_be_kept(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).to(memory_format=torch.preserve_format)
    tied[1].weight = tied[0].weight
    keep_weights(tied, tmp_path / "tied.safetensors")
    found = safetensors.torch.load_file(tmp_path / "tied.safetensors")
    assert torch.equal(found["0.weight"], found["1.weight"])


def test_a_state_that_is_not_made_of_tensors_is_refused(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

    with pytest.raises(UserError, match=r"_extra_state is a dict, not a tensor; leave keep_weights out"):
        keep_weights(Counting(2, 2), tmp_path / "weights.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_other_file_is_refused(tiny: Protocol, untrained: tuple[Pair, nn.Module, Path]) -> None:
    pair, network, path = untrained
    with pytest.raises(UserError, match=r"there are no weights .*--keep-weights"):
        load_student(tiny, pair, path, "0" * 64)
    sha256 = keep_weights(network, path)
    assert isinstance(load_student(tiny, pair, path, sha256), nn.Module)
    with pytest.raises(UserError, match=f"its sha256 is {sha256}, expected 0000"):
        load_student(tiny, pair, path, "0" * 64)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def test_nothing_is_unpickled(
    tiny: Protocol, untrained: tuple[Pair, nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, network, path = untrained
    monkeypatch.chdir(path.parent)
    for content in (pickle.dumps(_Payload()), b"", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a safetensors file"):
            load_student(tiny, pair, path, file_sha256(path))
    torch.save({**network.state_dict(), "payload": _Payload()}, path)
    with pytest.raises(UserError, match="is not a safetensors file"):
        load_student(tiny, pair, path, file_sha256(path))
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_the_weights_of_another_network_are_refused(tiny: Protocol, untrained: tuple[Pair, nn.Module, Path]) -> None:
    pair, network, path = untrained
    whole = {key: value.clone() for key, value in network.state_dict().items()}
    first = next(iter(whole))

    def message(tensors: dict[str, torch.Tensor]) -> str:
        path.write_bytes(safetensors.torch.save(tensors))
        with pytest.raises(UserError) as caught:
            load_student(tiny, pair, path, file_sha256(path))
        return str(caught.value)

    assert f"{first} is missing." in message({key: value for key, value in whole.items() if key != first})
    assert "more is not part of it" in message({**whole, "more": torch.zeros(1)})
    assert f"{first} has the shape (1, 2) in place of" in message({**whole, first: torch.zeros(1, 2)})
    assert f"{first} holds torch.int64" in message({**whole, first: torch.zeros(whole[first].shape, dtype=torch.int64)})
    many = message({"more": torch.zeros(1)})
    assert f"(and {len(whole) - 2} more)" in many


@pytest.mark.slow
def test_a_detector_is_made_again(tmp_path: Path) -> None:
    protocol = load_protocol("digits-detection-v1")
    protocol = protocol.model_copy(
        update={"data": write_data(protocol.data, protocol.student_recipe, tmp_path / "data")}
    )
    pair = next(iter(protocol.pairs.values()))
    data = open_data(protocol.data, protocol.recipe_for(pair.student), 0)
    network = task_named(protocol.task).create(pair.student, data, **protocol.start_of(pair.student).options)
    sha256 = keep_weights(network, tmp_path / "weights.safetensors")
    found = load_student(protocol, pair, tmp_path / "weights.safetensors", sha256)
    assert not found.training
    for key, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key
