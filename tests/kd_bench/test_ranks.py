"""Two processes that train a student together, on CPUs; each test starts some, which takes seconds."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rank_digits
import rows_on_ranks
from kd_bench.errors import UserError
from kd_bench.items import Item, ItemResult
from kd_bench.options import RunOptions
from kd_bench.predictions import read_predictions
from kd_bench.protocol import Pair, Protocol, TrainerSpec, load_protocol
from kd_bench.recipe import AdamW
from kd_bench.training.recorder import DivergedError
from kd_bench.worker import run_item

pytestmark = pytest.mark.slow

EPOCHS = 3
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


def _protocol(**machine: object) -> Protocol:
    full = load_protocol("digits-v1")
    optimizer = AdamW(name="adamw", lr=0.02, weight_decay=0.01)
    return full.model_copy(
        update={
            "id": "digits-ranks",
            "pairs": {"pair": Pair(student="norm_free", teacher="mini_resnet14")},
            "data": full.data.model_copy(update={"class_path": f"{rank_digits.__name__}.PlainDigits"}),
            "teacher_recipe": full.teacher_recipe.model_copy(update={"epochs": 2}),
            "student_recipe": full.student_recipe.model_copy(update={"epochs": EPOCHS, "optimizer": optimizer}),
            "trainer": TrainerSpec.model_validate(machine),
        }
    )


def _item(protocol: Protocol, name: str, output: Path) -> Item:
    return Item(protocol, "pair", name, 0, output, RunOptions(checkpoint_seconds=0))


def _like(first: ItemResult, second: ItemResult) -> bool:
    """Equal but for the order in which numbers are added up."""
    assert first.run.curve.train_loss == pytest.approx(second.run.curve.train_loss, rel=1e-4)
    assert first.run.curve.validation_accuracy == pytest.approx(second.run.curve.validation_accuracy, abs=0.01)
    assert first.run.last.nll == pytest.approx(second.run.last.nll, rel=1e-3)
    return True


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("plain", "ddp"), ("KD", "auto"), ("DML", "ddp"), ("BornAgain", "ddp"), ("KD", "fsdp")],
)
def test_two_processes_train_the_student_that_one_would(name: str, strategy: str, place: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    alone = run_item(_item(_protocol(), name, tmp_path))
    item = _item(_protocol(devices=2, strategy=strategy), name, place / strategy)
    together = run_item(item, lambda epoch, epochs: told.append((epoch, epochs)))
    assert _like(together, alone)
    planned = 2 * EPOCHS if name == "BornAgain" else EPOCHS
    assert told == [(epoch, planned) for epoch in range(1, planned + 1)]
    assert together.run.trainer == ({"devices": 2} | ({} if strategy == "auto" else {"strategy": strategy}))
    assert alone.run.trainer == {}
    # every test sample once, in its place
    assert (
        read_predictions(item.predictions).label
        == read_predictions(_item(_protocol(), name, tmp_path).predictions).label
    ).all()
    assert not item.checkpoints.exists()
    assert len((item.curves / "version_0" / "metrics.csv").read_text().splitlines()) == 1 + planned


SHARDED = {"CTKD", "FactorTransfer", "KTA", "PSKD", "SimKD", "TGeo-KD", "BDKD", "DML", "KDCL", "SwitOKD"}
"""Rows that do not work with a sharded student."""


@pytest.mark.parametrize(("strategy", "refused"), [("ddp", set()), ("fsdp", SHARDED)])
def test_every_row_can_be_trained_by_two(strategy: str, refused: set[str], tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"),
        *("--nproc-per-node=2", rows_on_ranks.__file__, strategy, str(tmp_path)),
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    assert outcomes == {name: "refused" if name in refused else "equal" for name in load_protocol("digits-v1").methods}


def test_an_interrupted_training_of_two_ends_in_the_same_student(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(epoch: int, epochs: int) -> None:
        if epoch == 2:
            raise Stopped

    # so many epochs that the word to stop comes before the end
    usual = _protocol(devices=2)
    longer = usual.student_recipe.model_copy(update={"epochs": 30})
    protocol = usual.model_copy(update={"student_recipe": longer})
    whole = run_item(_item(protocol, "KD", tmp_path / "whole"))
    item = _item(protocol, "KD", tmp_path / "broken")
    with pytest.raises(Stopped):
        run_item(item, stop)
    assert item.checkpoints.exists()
    told: list[int] = []
    again = run_item(item, lambda epoch, epochs: told.append(epoch))
    assert told == list(range(told[0], 31))
    assert told[0] >= 1  # more epochs may have been kept before the word to stop came
    assert again.run.curve == whole.run.curve
    assert again.run.predictions_sha256 == whole.run.predictions_sha256


def test_an_error_in_a_process_is_the_items(place: Path) -> None:
    protocol = _protocol(devices=2)
    optimizer = AdamW(name="adamw", lr=1e30)
    steep = protocol.model_copy(
        update={"student_recipe": protocol.student_recipe.model_copy(update={"optimizer": optimizer})}
    )
    with pytest.raises(DivergedError, match="the training loss was"):
        run_item(_item(steep, "plain", place))


def test_what_cannot_work_is_refused_before_processes_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use 2 or 4 devices"):
        run_item(_item(_protocol(devices=3), "plain", tmp_path))
    assert not list(tmp_path.iterdir())


SCRIPT = """
import pickle, sys
from pathlib import Path
from kd_bench.worker import run_item

if __name__ == "__main__":
    run_item(pickle.loads(Path(sys.argv[1]).read_bytes()), lambda epoch, epochs: print("epoch", epoch, flush=True))
"""


def test_the_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    protocol = _protocol(devices=2)
    recipe = protocol.student_recipe.model_copy(update={"epochs": 10_000})
    item = _item(protocol.model_copy(update={"student_recipe": recipe}), "plain", tmp_path)
    (tmp_path / "item").write_bytes(pickle.dumps(item))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "item")]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch 2"):
            assert process.poll() is None
        started = _descendants(process.pid)
        assert len(started) >= 3  # torchrun, and the two
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while any(map(_is_alive, started)):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.2)


def _descendants(process: int) -> set[int]:
    """Processes that a process has started, and those that these have started (Linux)."""
    parents = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found, size = {process}, 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, stat in parents.items() if stat and int(stat[1]) in found}
    return found - {process}


def _is_alive(process: int) -> bool:
    stat = _stat(process)
    return stat is not None and stat[0] != "Z"


def _stat(process: int) -> list[str] | None:
    """State and parent, among others."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
