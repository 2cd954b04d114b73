"""A training that is interrupted at any point goes on where it was and ends in the very same student."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from kd_bench.items import Item
from kd_bench.options import RunOptions
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.students import TrainedStudent, train_student
from kd_bench.teachers import LoadedTeacher, load_teacher
from kd_bench.worker import run_item

EPOCHS = 3
EVERY_EPOCH = RunOptions(checkpoint_seconds=0)

FEW = ["plain", "KD", "FitNet", "CRD", "TGeo-KD", "PSKD", "BornAgain"]
SLOW = sorted(set(load_protocol("digits-v1").methods) - set(FEW))
ROWS = [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory that the tests of this module share, for its teacher."""
    return tmp_path_factory.mktemp("output")


@pytest.fixture
def protocol() -> Protocol:
    full = load_protocol("digits-v1")
    # with so few epochs, the protocol's own rate makes some methods diverge
    gentle = full.student_recipe.optimizer.model_copy(update={"lr": 0.02})
    return full.model_copy(
        update={
            "id": "digits-resume",
            "core": (),
            "teacher_recipe": full.teacher_recipe.model_copy(update={"epochs": 2}),
            "student_recipe": full.student_recipe.model_copy(update={"epochs": EPOCHS, "optimizer": gentle}),
        }
    )


@pytest.fixture
def teacher(protocol: Protocol, place: Path) -> LoadedTeacher:
    return load_teacher(protocol, "mini_resnet14", place / "teachers")


def _item(protocol: Protocol, output: Path, name: str, options: RunOptions = EVERY_EPOCH) -> Item:
    return Item(protocol, "resnet14-cnn4", name, 0, output, options)


def _train(item: Item, teacher: LoadedTeacher, stop_at: int | None = None) -> tuple[TrainedStudent, list[int]]:
    told: list[int] = []

    def on_epoch(epoch: int, epochs: int) -> None:
        told.append(epoch)
        if epoch == stop_at:
            raise Interrupted

    return train_student(item, teacher.network, on_epoch), told


def _same(first: TrainedStudent, second: TrainedStudent) -> bool:
    left, right = first.network.state_dict(), second.network.state_dict()
    assert [each.recorder.curve for each in first.trainings] == [each.recorder.curve for each in second.trainings]
    assert [each.recorder.best for each in first.trainings] == [each.recorder.best for each in second.trainings]
    assert (first.chosen, first.extra_parameters) == (second.chosen, second.extra_parameters)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", ROWS)
def test_an_interrupted_training_ends_in_the_same_student(
    name: str, protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher
) -> None:
    expected, told = _train(_item(protocol, tmp_path / "whole", name), teacher)
    item = _item(protocol, tmp_path / "broken", name)
    # in the middle of the first training, and in the middle of the last
    for stop in sorted({2, told[-1] - 1}):
        with pytest.raises(Interrupted):
            _train(item, teacher, stop)
    found, told_then = _train(item, teacher)
    # every finished training is told of once, the one that goes on from the epoch that it goes on after
    assert told_then == [*range(EPOCHS, told[-1] - 2, EPOCHS), *told[-3:]]
    assert _same(found, expected)


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from kd_bench.worker import run_item

def on_epoch(epoch, epochs):
    if epoch == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    run_item(pickle.loads(Path(sys.argv[1]).read_bytes()), on_epoch)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epoch", "goes_on"), [("CRD", 2, [1, 2, 3]), ("BornAgain", 5, [3, 4, 5, 6])])
def test_a_killed_process_costs_no_more_than_an_epoch(
    name: str, epoch: int, goes_on: list[int], protocol: Protocol, tmp_path: Path
) -> None:
    expected = run_item(_item(protocol, tmp_path / "whole", name))
    item = _item(protocol, tmp_path / "broken", name)
    (tmp_path / "item").write_bytes(pickle.dumps(item))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "item"), str(epoch)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (kept,) = item.checkpoints.glob(f"training-{-(-epoch // EPOCHS)}.ckpt")
    spent = torch.load(kept, weights_only=True)["kd_bench"]["seconds"]
    told: list[int] = []
    found = run_item(item, lambda done, planned: told.append(done))
    assert told == goes_on
    assert found.run.seconds > spent > 0
    same = ("last", "best", "curve", "predictions_sha256")
    assert [getattr(found.run, field) for field in same] == [getattr(expected.run, field) for field in same]
    assert not item.checkpoints.exists()


def test_the_time_of_both_parts_counts(protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher) -> None:
    item = _item(protocol, tmp_path, "plain")

    def slowly(epoch: int, epochs: int) -> None:
        time.sleep(0.4)
        if epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_student(item, teacher.network, slowly)
    found, _ = _train(item, teacher)
    assert found.trainings[0].seconds > 0.4


def test_a_finished_item_leaves_no_checkpoint(protocol: Protocol, place: Path) -> None:
    item = _item(protocol, place, "plain")
    seen: list[bool] = []
    run_item(item, lambda epoch, epochs: seen.append(item.checkpoints.exists()))
    assert seen == [False, True, True]
    assert not item.checkpoints.exists()


def test_short_trainings_write_none(protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher) -> None:
    _train(_item(protocol, tmp_path, "plain", RunOptions()), teacher)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_teacher_goes_on_too(protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher) -> None:
    told: list[int] = []

    def on_epoch(epoch: int, epochs: int) -> None:
        told.append(epoch)
        if len(told) == 2:
            raise Interrupted

    def load() -> LoadedTeacher:
        return load_teacher(protocol, "mini_resnet14", tmp_path, on_epoch, checkpoint_seconds=0)

    with pytest.raises(Interrupted):
        load()
    assert load().info.weights_sha256 == teacher.info.weights_sha256
    assert told == [1, 2, 1, 2]  # the epoch that was done is told again
    assert not list(tmp_path.rglob("*.ckpt"))


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def _damage(path: Path, how: str) -> None:
    content = torch.load(path, weights_only=True)
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "not a checkpoint":
        path.write_bytes(b"nonsense")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "of another kind":
        torch.save({"state_dict": {}}, path)
    elif how == "with code in it":
        torch.save({**content, "harm": Harmful(path.with_name("harmed"))}, path)
    elif how == "of another student":
        torch.save({**content, "state_dict": {"network.strange": torch.zeros(1)}}, path)
    elif how == "without an optimizer":
        del content["optimizer_states"]
        torch.save(content, path)


@pytest.mark.parametrize(
    "how",
    [
        "cut off",
        "not a checkpoint",
        "empty",
        "of another kind",
        "with code in it",
        "of another student",
        "without an optimizer",
    ],
)
def test_a_corrupt_checkpoint_is_remarked_on_and_left(
    how: str, protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher
) -> None:
    expected, _ = _train(_item(protocol, tmp_path / "whole", "plain"), teacher)
    item = _item(protocol, tmp_path / "broken", "plain")
    with pytest.raises(Interrupted):
        _train(item, teacher, 3)
    _damage(item.checkpoints / "training-1.ckpt", how)
    with pytest.warns(UserWarning, match="the training starts anew"):
        found, told = _train(item, teacher)
    assert told == [1, 2, 3]
    assert _same(found, expected)
    assert not (item.checkpoints / "harmed").exists()


def test_a_checkpoint_of_another_recipe_is_not_used(
    protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(Interrupted):
        _train(_item(protocol, tmp_path, "KD"), teacher, 3)
    row = protocol.methods["KD"].model_copy(update={"parameters": {"temperature": 2.0}})
    other = protocol.model_copy(update={"methods": {"KD": row}})
    _, told = _train(_item(other, tmp_path, "KD"), teacher)
    assert told == [1, 2, 3]
    assert not [warning for warning in recwarn if "anew" in str(warning.message)]


def test_what_a_killed_writer_leaves_is_cleared_away(
    protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher
) -> None:
    item = _item(protocol, tmp_path, "plain")
    litter = item.checkpoints / ".training-1.ckpt.0123456789abcdef.tmp"
    litter.parent.mkdir(parents=True)
    litter.touch()
    _train(item, teacher)
    assert not litter.exists()


def test_a_full_disk_does_not_end_the_training(protocol: Protocol, tmp_path: Path, teacher: LoadedTeacher) -> None:
    resource = pytest.importorskip("resource")
    expected, _ = _train(_item(protocol, tmp_path / "whole", "plain"), teacher)
    item = _item(protocol, tmp_path / "full", "plain")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.warns(UserWarning, match=r"cannot write the checkpoint .*The training goes on"):
            found, _ = _train(item, teacher)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert _same(found, expected)
    assert not list(item.checkpoints.iterdir())
