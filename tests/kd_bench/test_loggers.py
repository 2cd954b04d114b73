"""The numbers of every epoch, read back from where each logger keeps them."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kd_bench.errors import UserError
from kd_bench.items import Item, ItemResult
from kd_bench.options import RunOptions
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.students import train_student
from kd_bench.teachers import load_teacher
from kd_bench.training import loggers
from kd_bench.training.loggers import check_loggers
from kd_bench.worker import run_item


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of this module keep their teacher."""
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture
def output(tmp_path: Path, teachers: Path) -> Path:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "teachers").symlink_to(teachers)
    return tmp_path / "output"


def _item(tiny: Protocol, output: Path, name: str = "KD", *services: str, seconds: float = 60) -> Item:
    rows = {
        **tiny.methods,
        "BornAgain": MethodRow.model_validate({"class": "BornAgain", "teacher": "previous"}),
        "Fused": MethodRow.model_validate({"class": "KD", "fusion": {"class": "WeightedSoftLabel"}}),
    }
    protocol = tiny.model_copy(update={"methods": rows})
    return Item(protocol, "resnet14-cnn4", name, 1, output, RunOptions(services, seconds))


def _rows(item: Item, attempt: int = 0) -> list[dict[str, float]]:
    with (item.curves / f"version_{attempt}" / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_the_csv_file_has_what_the_result_has_and_the_terms(tiny: Protocol, output: Path) -> None:
    item = _item(tiny, output)
    run = run_item(item).run
    rows = _rows(item)
    assert [row["step"] for row in rows] == [0, 1]
    assert tuple(row["train/loss"] for row in rows) == run.curve.train_loss
    assert tuple(row["validation/accuracy"] for row in rows) == run.curve.validation_accuracy
    assert rows[-1]["test/accuracy"] == run.last.accuracy
    assert rows[-1]["learning_rate"] < 1e-3
    for row in rows:
        assert 0.1 * row["kd/task"] + 0.9 * row["kd/KD"] == pytest.approx(row["train/loss"], rel=1e-5)
    described = (item.curves / "version_0" / "hparams.yaml").read_text()
    assert item.fingerprint in described


def test_all_trainings_of_an_item_follow_each_other(tiny: Protocol, output: Path) -> None:
    item = _item(tiny, output, "BornAgain")
    run_item(item)
    rows = _rows(item)
    assert [(row["training"], row["step"]) for row in rows] == [(1, 0), (1, 1), (2, 2), (2, 3)]
    assert "kd/BornAgain" not in rows[0]
    assert "kd/BornAgain" in rows[-1]


def test_what_a_fusion_says_of_an_epoch_is_there(tiny: Protocol, output: Path) -> None:
    item = _item(tiny, output, "Fused")
    run_item(item)
    assert 0 < _rows(item)[0]["kd/alpha/mean"] < 1


def test_nothing_of_an_earlier_attempt_is_lost(tiny: Protocol, output: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(epoch: int, epochs: int) -> None:
        if epoch == 2:
            raise Stopped

    item = _item(tiny, output, seconds=0)
    with pytest.raises(Stopped):
        run_item(item, stop)
    run_item(item)
    assert [row["step"] for row in _rows(item, 0)] == [0, 1]
    assert [row["step"] for row in _rows(item, 1)] == [1]
    assert _rows(item, 0)[1] == _rows(item, 1)[0]


def test_a_logger_that_fails_costs_its_numbers_only(tiny: Protocol, output: Path) -> None:
    item = _item(tiny, output, "plain")
    item.curves.parent.mkdir(parents=True)
    item.curves.touch()
    with pytest.warns(UserWarning, match="CSVLogger does not work and is left out"):
        assert len(run_item(item).run.curve.train_loss) == 2


def test_tensorboard(tiny: Protocol, output: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    item = _item(tiny, output, "KD", "tensorboard")
    run = run_item(item).run
    events = accumulator.EventAccumulator(str(item.curves / "version_0")).Reload()
    assert [event.step for event in events.Scalars("kd/KD")] == [0, 1]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(run.curve.train_loss)


@pytest.mark.slow
def test_mlflow(tiny: Protocol, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    item = _item(tiny, output, "KD", "mlflow")
    result = run_item(item)
    client = mlflow.MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name(tiny.id).experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.tags["group"] == "digits-tiny/KD/mini_cnn4__mini_resnet14"
    assert found.data.params["fingerprint"] == item.fingerprint
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == list(enumerate(result.run.curve.train_loss))


@pytest.mark.slow
def test_wandb_offline(tiny: Protocol, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    for name in ("KD", "plain"):
        item = _item(tiny, output, name, "wandb")
        result = run_item(item)
        (file,) = item.curves.rglob("*.wandb")
        _check_wandb(list(_records(file)), item, result)


def _check_wandb(records: list[Any], item: Item, result: ItemResult) -> None:
    run = next(record.run for record in records if record.HasField("run"))
    assert run.run_group == f"digits-tiny/{item.method_name}/mini_cnn4__mini_resnet14"
    assert (run.display_name, run.job_type, run.project) == ("seed-1", item.method_name, "kd_bench")
    config = {
        update.key: json.loads(update.value_json)
        for record in records
        if record.HasField("config")
        for update in record.config.update
    }
    assert config["protocol"] == {"id": "digits-tiny", "hash": item.protocol.hash}
    assert config["method"]["parameters"] == result.method.parameters
    assert (config["seed"], config["fingerprint"]) == (1, item.fingerprint)
    assert config["pair"] == {"student": "mini_cnn4", "teacher": "mini_resnet14"}
    losses = [
        json.loads(value.value_json)
        for record in records
        if record.HasField("history")
        for value in record.history.item
        if "train/loss" in (value.key, *value.nested_key)
    ]
    assert tuple(losses) == result.run.curve.train_loss
    assert next(record.exit.exit_code for record in records if record.HasField("exit")) == 0


def _records(path: Path) -> Iterator[Any]:
    """The records of an offline run: LevelDB's log format after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if (rest := 32768 - position % 32768) < 7:
            position += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole of a record, or its end
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_an_unknown_logger_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown logger 'wandbb'.*Did you mean 'wandb'"):
        check_loggers(["wandbb"])


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # only a folder that looks like the package, as Weights & Biases leaves it in the working directory
    (tmp_path / "absent_service").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(loggers._SERVICES, "absent_service", lambda item, version: None)
    with pytest.raises(UserError, match=r"pip install 'lightning-kd\[absent_service\]'"):
        check_loggers(["absent_service"])


def test_a_missing_package_is_found_before_the_training(tiny: Protocol, output: Path) -> None:
    item = _item(tiny, output, "plain", "nothing")
    with pytest.raises(UserError, match="unknown logger 'nothing'"):
        run_item(item)
    assert not item.curves.exists()


def test_a_student_can_be_trained_without(tiny: Protocol, output: Path) -> None:
    item = _item(tiny, output)
    train_student(item, load_teacher(tiny, "mini_resnet14", output / "teachers").network)
    assert not item.curves.exists()
