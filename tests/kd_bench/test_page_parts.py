"""The parts of the page that compute: numbers as text, the plot's axis, the reliability diagram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.errors import UserError
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.page_detail import detail
from kd_bench.leaderboard.page_format import MISSING, number, number_cell, seed_list, setting
from kd_bench.leaderboard.page_plot import choose_axis
from kd_bench.leaderboard.page_reliability import calibration_error, find_folders, reliability_bins, reliability_entry
from kd_bench.predictions import Predictions, write_predictions
from kd_bench.results import FusionInfo, run_set_path
from kd_bench.training.evaluate import expected_calibration_error
from synthetic_results import predictions, write_run_set

from lightning_kd.cli.lists import parse_seeds


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.5, 1, "1,234.5"), (-0.004, 2, "0.00"), (-1.5, 1, "\N{MINUS SIGN}1.5"), (0.0, 0, "0")],
)
def test_numbers(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def test_a_missing_number_sorts_by_nothing() -> None:
    cell = number_cell(None, 2)
    assert (cell.value, cell.text, cell.margin) == ("", MISSING, "")


def test_settings_are_shown_as_written() -> None:
    assert [setting(value) for value in ("a b", 4.0, None, True, {"a": ["é"]})] == [
        "a b",
        "4.0",
        "null",
        "true",
        '{"a": ["é"]}',
    ]


@given(st.lists(st.integers(0, 50), min_size=1, unique=True).map(sorted))
def test_seed_list_means_the_same_seeds(seeds: list[int]) -> None:
    assert parse_seeds(seed_list(seeds)) == seeds


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=8),
    st.lists(st.floats(-500, 600), max_size=8),
)
def test_the_axis_shows_everything_measured_with_readable_ticks(measured: list[float], intervals: list[float]) -> None:
    axis = choose_axis(measured, intervals)
    assert axis.low < axis.high
    assert all(axis.holds(value) for value in measured)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 7
    assert len({tick.label for tick in ticks}) == len(ticks)
    for tick in ticks:
        assert tick.x == axis.at(float(tick.label))
        assert 0 <= float(tick.x.removesuffix("%")) <= 100


def test_an_interval_far_beyond_the_data_does_not_squeeze_it() -> None:
    axis = choose_axis([90.0, 92.0], [20.0, 160.0])
    assert axis.high - axis.low < 8
    assert not axis.holds(20.0)
    assert axis.at(20.0) == "0.000%"


def test_bins_by_hand() -> None:
    made = Predictions(
        predicted=np.array([0, 1, 1, 2], np.uint8),
        label=np.array([0, 1, 0, 2], np.uint8),
        teacher_predicted=np.array([0, 1, 0, 2], np.uint8),
        confidence=np.array([1.0, 0.95, 0.55, 0.5], np.float32),
        label_log_probability=np.log(np.array([1.0, 0.95, 0.4, 0.5], np.float32)),
    )
    bins = reliability_bins([made], bins=2)
    assert [(item.low, item.high) for item in bins] == [(0.0, 0.5), (0.5, 1.0)]
    assert [item.share for item in bins] == [0.25, 0.75]
    assert [item.accuracy for item in bins] == pytest.approx([1.0, 2 / 3])
    assert [item.confidence for item in bins] == pytest.approx([0.5, 2.5 / 3])
    assert calibration_error(bins) == pytest.approx(0.25 * 0.5 + 0.75 * (2.5 / 3 - 2 / 3))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_diagram_of_one_run_has_the_recorded_calibration_error(seed: int) -> None:
    made, recorded = predictions(3.0, 2.0, seed)
    assert recorded == pytest.approx(expected_calibration_error(made), abs=1e-6)
    bins = reliability_bins([made])
    assert len(bins) == 15
    assert calibration_error(bins) == pytest.approx(recorded, abs=1e-6)
    assert sum(item.share for item in bins) == pytest.approx(1)
    assert sum(item.share * item.accuracy for item in bins) == pytest.approx(made.accuracy)


def test_pooling_weighs_every_sample_the_same() -> None:
    runs = [predictions(3.0, 2.0, seed)[0] for seed in (0, 1)]
    pooled = reliability_bins(runs)
    single = [reliability_bins([run]) for run in runs]
    for index, item in enumerate(pooled):
        assert item.share == pytest.approx((single[0][index].share + single[1][index].share) / 2)


@pytest.mark.parametrize("below", [".", "digits-v1", "digits-v1/KD", "digits-v1/KD/mini_cnn4__mini_resnet14"])
def test_predictions_are_found_from_any_folder(below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_set = write_run_set(tmp_path, "KD", "logits", seeds=(0, 1))
    monkeypatch.chdir(tmp_path / below)
    entry = reliability_entry(run_set, find_folders(Path()))
    assert entry is not None
    assert entry["name"] == "KD"
    assert len(entry["bins"]) == 15


def test_predictions_that_the_run_did_not_write_are_refused(tmp_path: Path) -> None:
    results, output = tmp_path / "results", tmp_path / "page.html"
    run_set = write_run_set(results, "KD", "logits", seeds=(0, 1))
    file = run_set_path(results, "digits-v1", "KD", "mini_cnn4", "mini_resnet14").parent / "seed1.npz"
    write_predictions(file, predictions(9.0, 2.0, 1)[0])
    with pytest.raises(UserError, match=r"seed1\.npz is not the file that the run wrote"):
        build_page([run_set], output, results=results)
    file.unlink()
    with pytest.raises(UserError, match=r"seed1\.npz"):
        build_page([run_set], output, results=results)
    assert not output.exists()


def test_the_detail_of_a_fusion_shows_it_in_place_of_the_task_weight(tmp_path: Path) -> None:
    fusion = FusionInfo(class_path="a.Fixed", parameters={"ratio": 0.5}, hold_out=0.1, source_sha256="d" * 64)
    fixed = dict(detail(write_run_set(tmp_path, "KD", "logits")).parameters)
    fused = dict(detail(write_run_set(tmp_path, "Fused", "logits", fusion=fusion, teacher="scratch")).parameters)
    assert (fixed["teacher"], fixed["task_weight"]) == ("trained", "1.0")
    assert "fusion" not in fixed
    assert "task_weight" not in fused
    shown = {name: fused[name] for name in ("teacher", "fusion", "fusion.ratio", "fusion.hold_out")}
    assert list(shown.values()) == ["scratch", "a.Fixed", "0.5", "0.1"]
