"""Predictions of one training are recognised, those of two are told apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hostile.valid import COMMITTED, DETECTORS, PAIR
from kd_bench.detection.detections import Detections
from kd_bench.predictions import Predictions
from kd_bench.submission.candidate import parse_predictions
from kd_bench.submission.duplicates import SAMPLES, signature

DIGITS = COMMITTED / "results" / "digits-v1"
SCENES = COMMITTED / "results" / "digits-detection-v1"


def predictions(method: str = "KD", seed: int = 0) -> Predictions:
    found = parse_predictions((DIGITS / method / PAIR / f"seed-{seed}.npz").read_bytes(), "classification")
    assert isinstance(found, Predictions)
    return found


def detections(method: str = "CWD", seed: int = 0) -> Detections:
    found = parse_predictions((SCENES / method / DETECTORS / f"seed-{seed}.npz").read_bytes(), "detection")
    assert isinstance(found, Detections)
    return found


def same(one: Predictions | Detections, other: Predictions | Detections) -> bool:
    forwards, backwards = signature(one).same_training(signature(other)), signature(other).same_training(signature(one))
    assert forwards == backwards
    return forwards


@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-5, 1e-4])
def test_copies_are_recognised_in_spite_of_noise(noise: float) -> None:
    original = predictions()
    factor = 1 + noise * np.random.default_rng(0).standard_normal(len(original.label))
    copy = replace(original, label_log_probability=(original.label_log_probability * factor).astype(np.float32))
    assert same(original, copy)


def test_a_few_changed_predictions_do_not_hide_a_copy() -> None:
    original = predictions()
    changed = original.label_log_probability.copy()
    changed[:20] -= 0.5
    assert same(original, replace(original, label_log_probability=changed))


@pytest.mark.parametrize("make", [predictions, detections])
def test_seeds_of_a_method_are_told_apart(make: object) -> None:
    assert callable(make)
    for one, other in combinations([make(seed=seed) for seed in range(3)], 2):
        assert not same(one, other)


def test_methods_are_told_apart() -> None:
    for one, other in combinations(["KD", "DKD", "plain", "LabelSmoothing", "TfKD"], 2):
        assert not same(predictions(one), predictions(other))


def test_trainings_that_went_nowhere_are_told_apart() -> None:
    random, found = np.random.default_rng(0), []
    for _ in range(2):
        uniform = np.log(0.1) + 1e-4 * random.standard_normal(539)
        found.append(replace(predictions(), label_log_probability=uniform.astype(np.float32)))
    assert not same(*found)
    assert same(found[0], found[0])


def test_networks_that_are_certain_of_everything_are_compared_exactly() -> None:
    certain = replace(predictions(), label_log_probability=np.full(539, -1e-6, dtype=np.float32))
    nearly = replace(certain, label_log_probability=np.full(539, -2e-6, dtype=np.float32))
    assert same(certain, certain)
    assert not same(certain, nearly)


def test_copied_detections_are_recognised_though_some_are_left_out() -> None:
    original = detections()
    kept = np.ones(len(original), dtype=bool)
    kept[1::7] = False
    score = original.score * np.float32(1 - 1e-5)
    copy = Detections(original.image_id[kept], original.label[kept], score[kept], original.box[kept])
    assert same(original, copy)


def test_other_images_are_no_copy() -> None:
    original = detections()
    moved = replace(original, image_id=original.image_id + 10_000)
    assert not same(original, moved)


def test_signatures_are_small(tmp_path: Path) -> None:
    many = replace(
        predictions(),
        **{name: np.resize(array, 100_000) for name, array in vars(predictions()).items()},
    )
    assert len(signature(many).place) == SAMPLES
    assert len(signature(detections()).place) <= SAMPLES
