"""Students that are trained again, and compared within what the noise explains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.options import LaunchOptions
from kd_bench.protocol import load_protocol
from kd_bench.runner import run_protocol
from kd_bench.verification import retrain
from kd_bench.verification.findings import Findings
from kd_bench.verification.retrain import Retraining, verify_retrained
from kd_bench.verification.tolerance import RETRAINED_MEAN_CAP
from tiny_benchmark import tiny_protocol
from verifiable_entries import OWN, PAIR, change, forge, raised

COMMITTED = Path(__file__).parents[3] / "leaderboards" / "results"


def findings(
    folder: Path, output: Path, seeds: list[int] | None = None, *, run_submitted_code: bool = False
) -> Findings:
    (entry,) = load_entries(folder)
    return verify_retrained(entry, tiny_protocol(), Retraining(output, seeds, run_submitted_code))


@pytest.fixture
def kd(results: Path) -> Path:
    return results / "KD" / PAIR


@pytest.fixture
def output(trained: Path, tmp_path: Path) -> Path:
    """An output that has the teacher already."""
    shutil.copytree(trained / "teachers", tmp_path / "output" / "teachers")
    return tmp_path / "output"


def test_an_honest_entry_holds(kd: Path, output: Path) -> None:
    found = findings(kd, output)
    assert found.problems == ()
    assert [each.difference for each in found.seeds] == [0.0, 0.0]
    assert found.remarks == ("the predictions of seeds 0, 1 are the same to the bit",)
    again = findings(kd, output)
    assert again.seeds == found.seeds
    assert "2 of 2 seeds had been trained before, in the same output" in again.remarks


def test_one_seed_of_a_submitted_method(results: Path, output: Path) -> None:
    found = findings(results / OWN / PAIR, output, [1], run_submitted_code=True)
    assert found.problems == ()
    assert [(each.seed, each.difference) for each in found.seeds] == [(1, 0.0)]
    assert found.remarks == ("the predictions of seed 1 are the same to the bit",)


def test_raised_numbers_are_found(kd: Path, output: Path) -> None:
    forge(kd, raised)
    found = findings(kd, output)
    assert found.mean_tolerance is not None
    assert found.mean_tolerance <= RETRAINED_MEAN_CAP
    assert found.mean_difference == pytest.approx(-0.15, abs=0.01)
    assert found.problems[0].startswith("seed 0: trained again it has")
    assert found.problems[-1].startswith("trained again the mean is 15.")
    assert "lower than claimed" in found.problems[-1]


def test_a_single_raised_seed_is_found(kd: Path, output: Path) -> None:
    forge(kd, raised, seeds=(1,))
    found = findings(kd, output)
    assert found.problems[0].startswith("seed 1: trained again it has")
    assert any("seed 0 are the same to the bit, those of seed 1 are not" in remark for remark in found.remarks)


def test_another_teacher_and_environment_are_remarked(kd: Path, output: Path) -> None:
    (entry,) = load_entries(kd)
    teacher = entry.run_set.teacher.model_copy(update={"weights_sha256": "0" * 64})
    change(kd, teacher=teacher, environment=entry.run_set.environment.model_copy(update={"torch": "1.0"}))
    found = findings(kd, output, [0])
    assert found.problems == ()
    assert any("the teacher here is another one" in remark for remark in found.remarks)
    assert any(remark.startswith("torch here: ") and remark.endswith("of the entry: 1.0") for remark in found.remarks)


def test_an_entry_is_not_compared_with_itself(kd: Path) -> None:
    with pytest.raises(UserError, match=r"lies in the output .* choose another --output"):
        findings(kd, kd.parents[3])


def test_seeds_that_the_protocol_does_not_have(kd: Path, output: Path) -> None:
    (entry,) = load_entries(kd)
    runs = (*entry.run_set.runs, entry.run_set.runs[0].model_copy(update={"seed": 9}))
    change(kd, runs=runs)
    with pytest.raises(UserError, match=r"has no seed 9.*--seeds: 0, 1"):
        findings(kd, output)


def test_a_pair_that_the_protocol_does_not_have(kd: Path, output: Path) -> None:
    (entry,) = load_entries(kd)
    protocol = tiny_protocol()
    (pair,) = protocol.pairs.values()
    other = protocol.model_copy(update={"pairs": {"other": pair.model_copy(update={"student": "mini_resnet14"})}})
    with pytest.raises(UserError, match="no pair of the student mini_cnn4 and the teacher mini_resnet14"):
        verify_retrained(entry, other, Retraining(output))


@pytest.mark.slow
def test_trainings_that_fail_are_problems(results: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrain, "run_protocol", run_protocol)
    (entry,) = load_entries(results / "KD" / PAIR)
    recipe = tiny_protocol().student_recipe
    optimizer = recipe.optimizer.model_copy(update={"lr": 1e30})
    protocol = tiny_protocol().model_copy(update={"student_recipe": recipe.model_copy(update={"optimizer": optimizer})})
    found = verify_retrained(entry, protocol, Retraining(output, [0], launch=LaunchOptions(retries=0)))
    assert "could not be trained" in found.obstacles[0]
    assert not found.hold
    assert found.seeds[0].found is None


@pytest.mark.slow
def test_a_committed_entry_is_trained_again(tmp_path: Path) -> None:
    (entry,) = load_entries(COMMITTED / "digits-v1" / "plain" / PAIR)
    found = verify_retrained(entry, load_protocol("digits-v1"), Retraining(tmp_path, [0]))
    assert found.problems == ()
    assert found.seeds[0].found is not None
