"""Kept weights, evaluated anew."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from kd_bench.construct import dotted_path
from kd_bench.data.base import open_data
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.protocol import load_protocol
from kd_bench.run_set_files import RUN_SET_FILE, read_run_set
from kd_bench.storage import file_sha256
from kd_bench.tasks.registry import task_named
from kd_bench.verification import checkpoint
from kd_bench.verification.checkpoint import verify_checkpoint
from kd_bench.verification.findings import Findings
from kd_bench.verification.tolerance import CHECKPOINT
from kd_bench.weights import keep_weights
from tiny_benchmark import tiny_protocol
from verifiable_entries import OWN, PAIR, change_method, change_run, forge, raised, scores_of

from lightning_kd.methods import SimKD

COMMITTED = Path(__file__).parents[3] / "leaderboards" / "results"


@pytest.fixture
def kd(results: Path) -> Path:
    return results / "KD" / PAIR


@pytest.fixture
def weights(trained: Path, tmp_path: Path) -> Path:
    """Copies of KD's weights, without the folders around them."""
    return Path(shutil.copytree(trained / "weights" / "digits-tiny" / "KD" / PAIR, tmp_path / "weights"))


def findings(folder: Path, weights: Path | None, seeds: list[int] | None = None) -> Findings:
    (entry,) = load_entries(folder)
    return verify_checkpoint(entry, tiny_protocol(), weights, seeds)


@pytest.mark.parametrize("method", ["plain", "KD", OWN])
def test_honest_weights_hold(method: str, results: Path, trained: Path) -> None:
    found = findings(results / method / PAIR, trained)
    assert (found.problems, found.remarks) == ((), ())
    assert [(each.seed, each.difference, each.agreement) for each in found.seeds] == [(0, 0.0, 1.0), (1, 0.0, 1.0)]
    assert found.tolerance == CHECKPOINT


def test_a_folder_with_the_files_will_do(kd: Path, weights: Path) -> None:
    assert findings(kd, weights).problems == ()
    (weights / "seed-0.safetensors").unlink()
    assert findings(kd, weights, [1]).problems == ()
    with pytest.raises(UserError, match=r"there are no weights .*--seeds chooses"):
        findings(kd, weights)


def test_other_weights_than_those_that_are_stated(kd: Path, weights: Path) -> None:
    shutil.copy(weights / "seed-1.safetensors", weights / "seed-0.safetensors")
    found = findings(kd, weights)
    (problem,) = found.problems
    assert "seed 0" in problem
    assert "is another file than the result says" in problem
    assert found.seeds[0].found is None
    assert found.seeds[1].difference == 0.0


def test_where_no_hash_is_stated_the_predictions_tell(kd: Path, weights: Path) -> None:
    for seed in (0, 1):
        change_run(kd, seed, weights_sha256=None)
    found = findings(kd, weights)
    assert found.problems == ()
    assert "seed 0: the run set does not state the hash of its weights" in found.remarks[0]
    shutil.copy(weights / "seed-1.safetensors", weights / "seed-0.safetensors")
    found = findings(kd, weights)
    assert any("those of another network" in problem for problem in found.problems)
    assert found.seeds[0].agreement is not None
    assert found.seeds[0].agreement < 0.95


def test_a_network_that_only_differs_in_confidence_is_another(kd: Path, weights: Path) -> None:
    path = weights / "seed-0.safetensors"
    tensors = safetensors.torch.load_file(path)
    (last,) = [key for key, value in tensors.items() if value.ndim == 2]
    for key in (last, last.replace("weight", "bias")):
        tensors[key] = tensors[key] * 1.5
    path.write_bytes(safetensors.torch.save(tensors))
    change_run(kd, 0, weights_sha256=file_sha256(path))
    found = findings(kd, weights)
    assert found.seeds[0].agreement == 1.0
    (problem,) = found.problems
    assert "more or less confident than stored" in problem


def test_a_consistent_forgery_is_found(kd: Path, weights: Path) -> None:
    before = scores_of(kd, 0).accuracy
    forge(kd, raised)
    found = findings(kd, weights)
    assert "seed 0: its weights have " in found.problems[0]
    assert found.seeds[0].found == before
    assert {problem[:6] for problem in found.problems} == {"seed 0", "seed 1"}


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(kd: Path, weights: Path, tmp_path: Path) -> None:
    path, executed = weights / "seed-0.safetensors", tmp_path / "executed"
    for content in (pickle.dumps(_Payload(executed)), b"", b"\xff" * 100):
        path.write_bytes(content)
        change_run(kd, 0, weights_sha256=file_sha256(path))
        found = findings(kd, weights)
        (obstacle,) = found.obstacles
        assert "is not a safetensors file" in obstacle
        assert not found.hold
    torch.save({"payload": _Payload(executed)}, path)
    change_run(kd, 0, weights_sha256=None)
    (obstacle,) = findings(kd, weights).obstacles
    assert "is not a safetensors file" in obstacle
    assert not executed.exists()


def test_the_weights_of_another_architecture(kd: Path, weights: Path) -> None:
    path = weights / "seed-0.safetensors"
    path.write_bytes(safetensors.torch.save({"weight": torch.zeros(2)}))
    change_run(kd, 0, weights_sha256=file_sha256(path))
    (obstacle,) = findings(kd, weights).obstacles
    assert "holds the weights of another network than the student mini_cnn4" in obstacle


def test_what_is_deployed_around_the_student(kd: Path, weights: Path) -> None:
    change_method(kd, class_path=dotted_path(SimKD))
    with pytest.raises(UserError, match="deploys a network of its own around the student"):
        findings(kd, weights)


def test_what_is_no_plain_file_or_too_large(kd: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights / "seed-0.safetensors"
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is not a plain file"):
        findings(kd, weights)
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="at most 1,000 are accepted"):
        findings(kd, weights, [1])


def test_weights_that_are_not_finite(kd: Path, weights: Path) -> None:
    path = weights / "seed-0.safetensors"
    tensors = {key: value * np.nan for key, value in safetensors.torch.load_file(path).items()}
    whole = {key: value for key, value in safetensors.torch.load_file(path).items() if not value.is_floating_point()}
    path.write_bytes(safetensors.torch.save({**tensors, **whole}))
    change_run(kd, 0, weights_sha256=file_sha256(path))
    assert findings(kd, weights).problems


@pytest.mark.parametrize("given", [None, "missing"])
def test_where_there_are_no_weights(given: str | None, kd: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--weights DIR|there is no folder"):
        findings(kd, None if given is None else tmp_path / given)


def test_a_seed_that_the_entry_does_not_have(kd: Path, weights: Path) -> None:
    with pytest.raises(UserError, match="no run of the seed 7; its seeds are 0, 1"):
        findings(kd, weights, [1, 7])
    assert [run.seed for run in read_run_set(kd / RUN_SET_FILE).runs] == [0, 1]


@pytest.mark.slow
def test_a_detector_that_has_learnt_nothing(tmp_path: Path) -> None:
    (entry,) = load_entries(COMMITTED / "digits-detection-v1" / "PKD" / "small_fcos_8__small_fcos_24")
    protocol = load_protocol("digits-detection-v1")
    student = entry.run_set.student.name
    data = open_data(protocol.data, protocol.recipe_for(student), 0)
    network = task_named("detection").create(student, data, **protocol.start_of(student).options)
    keep_weights(network, tmp_path / "seed-0.safetensors")
    found = verify_checkpoint(entry, protocol, tmp_path, [0])
    assert found.obstacles == ()
    assert found.seeds[0].found == pytest.approx(0.0, abs=0.01)
    (problem,) = found.problems
    assert problem.startswith("seed 0: its weights have 0.")
