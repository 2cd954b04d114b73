"""Scores computed anew from predictions, and forgeries that this finds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kd_bench.data.fashion_files import find_files
from kd_bench.data.places import only_what_is_here
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.predictions import Predictions
from kd_bench.run_set_files import RUN_SET_FILE, read_run_set
from kd_bench.storage import file_sha256, write_atomic
from kd_bench.submission import recompute
from kd_bench.verification.findings import Findings
from kd_bench.verification.predictions import verify_predictions
from verifiable_entries import OWN, PAIR, change, change_run, forge, raised, scores_of

COMMITTED = Path(__file__).parents[3] / "leaderboards" / "results"


def findings(folder: Path) -> Findings:
    (entry,) = load_entries(folder)
    return verify_predictions(entry)


def problem(folder: Path) -> str:
    (found,) = findings(folder).problems
    return found


@pytest.fixture
def kd(results: Path) -> Path:
    return results / "KD" / PAIR


@pytest.mark.parametrize("method", ["plain", "KD", OWN])
def test_an_honest_entry_holds(method: str, results: Path) -> None:
    folder = results / method / PAIR
    found = findings(folder)
    assert (found.problems, found.remarks, found.mean_difference) == ((), (), 0.0)
    stated = read_run_set(folder / RUN_SET_FILE)
    assert [(each.seed, each.found) for each in found.seeds] == list(zip(stated.seeds, stated.headlines(), strict=True))
    assert len({each.found for each in found.seeds}) == 2


def test_a_forged_headline_is_found(kd: Path) -> None:
    honest = scores_of(kd, 1)
    run = read_run_set(kd / RUN_SET_FILE).runs[1]
    higher = honest.model_copy(update={"accuracy": honest.accuracy + 0.01})
    change_run(kd, 1, last=higher, best=run.best.model_copy(update={"accuracy": 1.0}))
    found = findings(kd)
    assert "seed 1: accuracy is stated as" in found.problems[0]
    assert len(found.problems) == 1
    assert [each.difference == 0 for each in found.seeds] == [True, False]
    assert found.seeds[1].difference == pytest.approx(-0.01)


@pytest.mark.parametrize("name", ["nll", "ece", "agreement"])
def test_a_forged_score_of_any_kind_is_found(name: str, kd: Path) -> None:
    honest = scores_of(kd, 0)
    change_run(kd, 0, last=honest.model_copy(update={name: getattr(honest, name) / 2}))
    assert f"seed 0: {name} is stated as" in problem(kd)


def test_forged_labels_are_found(kd: Path) -> None:
    def all_right(predictions: Predictions) -> Predictions:
        return replace(
            predictions,
            label=predictions.predicted,
            label_log_probability=np.log(predictions.confidence),
        )

    forge(kd, all_right, seeds=(1,))
    assert scores_of(kd, 1).accuracy == 1.0
    assert "seed-1.npz" in problem(kd)
    assert "labels are not those of the test set" in problem(kd)


def test_labels_in_another_order_are_found(kd: Path) -> None:
    def mixed(predictions: Predictions) -> Predictions:
        order = np.random.default_rng(0).permutation(len(predictions.label))
        return Predictions(**{name: getattr(predictions, name)[order] for name in vars(predictions)})

    before = scores_of(kd, 0).accuracy
    forge(kd, mixed, seeds=(0,))
    assert scores_of(kd, 0).accuracy == before
    assert "labels are not those of the test set" in findings(kd).problems[0]


def test_where_the_data_is_missing_the_rest_is_verified(kd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "test_labels", lambda protocol: "no data here")
    found = findings(kd)
    assert found.problems == ()
    assert [each.difference for each in found.seeds] == [0.0, 0.0]
    (remark,) = found.remarks
    assert "not compared with the test set: no data here" in remark
    change_run(kd, 0, last=scores_of(kd, 0).model_copy(update={"nll": 0.0}))
    assert "nll is stated as" in problem(kd)


def test_a_forged_hash_is_found(kd: Path) -> None:
    change_run(kd, 0, predictions_sha256="0" * 64)
    assert "is not the file of seed 0" in problem(kd)


def test_a_missing_file_is_found(kd: Path) -> None:
    (kd / "seed-1.npz").unlink()
    assert "seed-1.npz: is missing" in problem(kd)
    assert findings(kd).seeds[1].found is None


def test_swapped_predictions_are_found(kd: Path) -> None:
    first, second = kd / "seed-0.npz", kd / "seed-1.npz"
    content = first.read_bytes()
    write_atomic(first, second.read_bytes())
    write_atomic(second, content)
    found = findings(kd)
    assert sum("that the run set names by its hash" in each for each in found.problems) == 2


def test_predictions_of_another_method_are_found(kd: Path, results: Path) -> None:
    shutil.copy(results / "plain" / PAIR / "seed-0.npz", kd / "seed-0.npz")
    change_run(kd, 0, predictions_sha256=file_sha256(kd / "seed-0.npz"))
    assert "seed 0" in findings(kd).problems[0]
    assert "its predictions give" in findings(kd).problems[0]


def test_a_corrupt_file_is_found_and_nothing_unpickled(kd: Path) -> None:
    payload = np.array([object()], dtype=object)
    np.savez(kd / "seed-0.npz", predicted=payload, allow_pickle=True)
    found = findings(kd)
    assert "seed-0.npz" in found.problems[0]
    assert found.seeds[0].found is None
    assert found.seeds[1].found is not None


def other_mistakes(predictions: Predictions) -> Predictions:
    """A teacher that is right as often, and wrong in another way."""
    wrong = predictions.teacher_predicted != predictions.label
    assert wrong.sum() > 1
    teacher = predictions.teacher_predicted.copy()
    teacher[wrong] = [
        next(other for other in range(10) if other not in pair)
        for pair in zip(predictions.label[wrong], teacher[wrong], strict=True)
    ]
    return replace(predictions, teacher_predicted=teacher)


def test_other_predictions_of_the_same_teacher_are_found(kd: Path) -> None:
    forge(kd, other_mistakes)
    message = problem(kd)
    assert "its teacher has the same weights as that of 2 other entries" in message
    assert "LogitMatching/mini_cnn4__mini_resnet14 has other predictions of it on" in message
    assert "(and 1 more)" in message


def test_where_entries_contradict_one_another_the_fewer_are_at_fault(kd: Path, results: Path) -> None:
    forge(kd, other_mistakes)
    found = findings(results / "plain" / PAIR)
    assert found.problems == ()
    (remark,) = found.remarks
    assert "KD/mini_cnn4__mini_resnet14 has other predictions of it" in remark


def test_another_score_of_the_same_teacher_is_found(kd: Path, results: Path) -> None:
    for method in ("plain", OWN):
        folder = results / method / PAIR
        teacher = read_run_set(folder / RUN_SET_FILE).teacher
        change(folder, teacher=teacher.model_copy(update={"accuracy": 0.5}))
    assert "says that it has a score of 0.5000" in problem(kd)


def test_a_consistent_forgery_needs_a_higher_level(kd: Path) -> None:
    before = scores_of(kd, 0).accuracy
    forge(kd, raised)
    assert scores_of(kd, 0).accuracy > before + 0.1
    assert findings(kd).problems == ()


def test_a_folder_without_a_run_set_is_refused(kd: Path) -> None:
    (entry,) = load_entries(kd)
    (kd / RUN_SET_FILE).write_text("{}")
    with pytest.raises(UserError, match=RUN_SET_FILE):
        verify_predictions(entry)


def _committed(path: str) -> Findings:
    found = findings(COMMITTED / path)
    assert found.problems == ()
    assert found.mean_difference == pytest.approx(0.0, abs=1e-6)
    return found


def test_a_committed_entry_holds() -> None:
    assert _committed("digits-v1/KD/mini_cnn4__mini_resnet14").remarks == ()


def test_a_committed_entry_of_detectors_holds() -> None:
    assert _committed("digits-detection-v1/PKD/small_fcos_8__small_fcos_24").remarks == ()


def test_a_committed_entry_of_fashion_mnist_holds() -> None:
    try:
        with only_what_is_here():
            find_files()
    except UserError as error:
        pytest.skip(f"needs Fashion-MNIST: {error}")
    assert _committed("fashion-v1/KD/fashion_cnn5__fashion_resnet14").remarks == ()
