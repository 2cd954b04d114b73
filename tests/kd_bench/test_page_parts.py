"""The parts of the page that compute: numbers as text, the plot's axis, curves, the reliability diagram, commands."""

from __future__ import annotations

import shlex
import string
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.leaderboard.page import build_page
from kd_bench.leaderboard.page.axis import choose_axis
from kd_bench.leaderboard.page.curves import LEVELS, MAX_POINTS, kept_epochs, packed_curves
from kd_bench.leaderboard.page.format import number, seed_list, setting
from kd_bench.leaderboard.page.recipe import command_of, settings_of
from kd_bench.leaderboard.page.reliability import calibration_error, reliability_bins, reliability_summary
from kd_bench.predictions import Predictions, write_predictions
from kd_bench.results import FusionInfo
from kd_bench.run_set_files import run_set_path
from kd_bench.training.evaluate import expected_calibration_error
from synthetic_results import predictions, write_run_set

from lightning_kd.cli.lists import parse_seeds


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.5, 1, "1,234.5"), (-0.004, 2, "0.00"), (-1.5, 1, "\N{MINUS SIGN}1.5"), (0.0, 0, "0")],
)
def test_numbers(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


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
    assert 1 <= (axis.high - axis.low) / axis.step <= 7
    assert f"{axis.step:e}"[:3] in {"1.0", "2.0", "2.5", "5.0"}  # round, so that labels are short


def test_an_interval_far_beyond_the_data_does_not_squeeze_it() -> None:
    axis = choose_axis([90.0, 92.0], [20.0, 160.0])
    assert axis.high - axis.low < 8
    assert not axis.holds(20.0)


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


def unpacked(packed: list[Any], counts: list[int]) -> list[list[float]]:
    """What the page's script reads."""
    low, high, text = packed
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    levels = [64 * alphabet.index(first) + alphabet.index(second) for first, second in batched(text)]
    values = iter([low + (high - low) * level / (LEVELS - 1) for level in levels])
    return [[next(values) for _ in range(min(count, MAX_POINTS))] for count in counts]


def batched(text: str) -> list[tuple[str, str]]:
    return list(zip(text[::2], text[1::2], strict=True))


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=150), min_size=1, max_size=4))
def test_curves_are_kept_to_what_a_screen_can_show(losses: list[list[float]]) -> None:
    runs = [SimpleNamespace(curve=SimpleNamespace(train_loss=tuple(loss), validation=None)) for loss in losses]
    packed = packed_curves(runs)  # type: ignore[arg-type]
    assert packed["validation"] is None
    assert packed["epochs"] == [len(loss) for loss in losses]
    every = [value for loss in losses for value in (loss[epoch] for epoch in kept_epochs(len(loss)))]
    allowed = (max(every) - min(every)) / (LEVELS - 1) + 2e-3 * max(map(abs, every))
    for loss, found in zip(losses, unpacked(packed["loss"], packed["epochs"]), strict=True):
        assert found == pytest.approx([loss[epoch] for epoch in kept_epochs(len(loss))], abs=allowed + 1e-12)


def test_losses_beyond_all_bounds_do_not_break_the_page() -> None:
    runs = [SimpleNamespace(curve=SimpleNamespace(train_loss=(-1.7e308, 0.0, 1.7e308), validation=None))]
    low, high, text = packed_curves(runs)["loss"]  # type: ignore[arg-type]
    assert (low, high, text) == (-1.7e308, 1.7e308, "AAgA//")


@given(st.integers(1, 10_000))
def test_the_first_and_the_last_epoch_are_kept(epochs: int) -> None:
    kept = kept_epochs(epochs)
    assert (kept[0], kept[-1], len(kept)) == (0, epochs - 1, min(epochs, MAX_POINTS))
    assert kept == sorted(set(kept))


def test_predictions_are_those_in_the_entrys_folder(tmp_path: Path) -> None:
    write_run_set(tmp_path, "KD", "logits", seeds=(0, 1))
    (entry,) = load_entries(tmp_path)
    summary = reliability_summary(entry)
    assert summary is not None
    bins = reliability_bins([predictions(3.5, 1.0, seed)[0] for seed in (0, 1)])
    assert summary[0] == pytest.approx(calibration_error(bins), abs=1e-6)
    assert [number for number, *_ in summary[2]] == [place for place, item in enumerate(bins) if item.share]
    assert reliability_summary(replace(entry, folder=None)) is None


def test_predictions_that_the_run_did_not_write_are_refused(tmp_path: Path) -> None:
    results, output = tmp_path / "results", tmp_path / "page.html"
    write_run_set(results, "KD", "logits", seeds=(0, 1))
    folder = run_set_path(results, "digits-v1", "KD", "mini_cnn4", "mini_resnet14").parent
    write_predictions(folder / "seed1.npz", predictions(9.0, 2.0, 1)[0])
    with pytest.raises(UserError, match=r"seed1\.npz is not the file that the run wrote"):
        build_page(load_entries(results), output)
    (folder / "seed1.npz").unlink()
    with pytest.raises(UserError, match=r"seed1\.npz is missing"):
        build_page(load_entries(results), output)
    assert not output.exists()
    (folder / "seed0.npz").unlink()  # without any of them there is no diagram
    build_page(load_entries(results), output)
    assert '"reliability":[null]' in output.read_text(encoding="utf-8")


def test_the_settings_of_a_fusion_show_it_in_place_of_the_task_weight(tmp_path: Path) -> None:
    fusion = FusionInfo(class_path="a.Fixed", parameters={"ratio": 0.5}, hold_out=0.1, source_sha256="d" * 64)
    fixed = dict(settings_of(write_run_set(tmp_path, "KD", "logits")))
    fused = dict(settings_of(write_run_set(tmp_path, "Fused", "logits", fusion=fusion, teacher="scratch")))
    assert (fixed["teacher"], fixed["task_weight"]) == ("trained", "1.0")
    assert "fusion" not in fixed
    assert "task_weight" not in fused
    shown = {name: fused[name] for name in ("teacher", "fusion", "fusion.ratio", "fusion.hold_out")}
    assert list(shown.values()) == ["scratch", "a.Fixed", "0.5", "0.1"]


def test_the_command_of_ones_own_method_names_its_file_class_and_settings(tmp_path: Path) -> None:
    write_run_set(tmp_path, "KD", "logits", seeds=(0, 1, 2))
    own = {"class_path": "mine.Mine", "parameters": {"weight": 2.0, "note": "it's"}, "task_weight": 0.5}
    write_run_set(tmp_path, "Mine", None, seeds=(0, 2), **own)
    write_run_set(tmp_path, "Packed", None, seeds=(0,), class_path="my_package.methods.Packed")
    entries = {entry.run_set.method.name: entry for entry in load_entries(tmp_path)}
    start, pair = ["lightning-kd", "bench", "run", "digits-v1", "--methods"], ["--pairs", "resnet14-cnn4"]
    assert shlex.split(command_of(entries["KD"])) == [*start, "KD", *pair, "--seeds", "0-2"]
    assert shlex.split(command_of(entries["Packed"])) == [*start, "Packed", *pair, "--seeds", "0"]
    settings = ["--method-parameters", '{"note": "it\'s", "weight": 2.0}', "--task-weight", "0.5"]
    rest = [*settings, *pair, "--seeds", "0,2"]
    assert shlex.split(command_of(entries["Mine"])) == [*start, "mine.py:Mine", *rest]
    folder = entries["Mine"].folder
    assert folder is not None
    (folder / "method.py").write_text("", encoding="utf-8")
    place = "leaderboards/results/digits-v1/Mine/mini_cnn4__mini_resnet14/method.py:Mine"
    assert shlex.split(command_of(entries["Mine"])) == [*start, place, *rest]
