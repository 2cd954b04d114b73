"""Mixup and CutMix against timm's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kd_bench.data.mixing import Mixing, cut_box

timm_mixup = pytest.importorskip("timm.data.mixup")

BATCH = 8


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 12, 10, generator=generator)
    return images, torch.randint(5, (BATCH,), generator=generator)


def _mixed(mixing: Mixing, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = _batch()
    return mixing(images, labels, images.flip(0), labels.flip(0), seed)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_timms_for_the_same_ratio(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, targets = _mixed(Mixing(5, mixup=0.8, cutmix=0.0), seed)
    ratio = float(np.random.default_rng(seed).beta(0.8, 0.8))
    timm = timm_mixup.Mixup(mixup_alpha=0.8, label_smoothing=0.0, num_classes=5)
    monkeypatch.setattr(timm, "_params_per_batch", lambda: (ratio, False))
    images, expected = timm(*_batch())
    assert torch.allclose(found, images, atol=1e-6)
    assert torch.allclose(targets, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_is_timms_for_the_same_ratio_and_place(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, targets = _mixed(Mixing(5, mixup=0.0, cutmix=1.0), seed)
    generator = np.random.default_rng(seed)
    ratio, places = float(generator.beta(1.0, 1.0)), [generator.integers(12), generator.integers(10)]
    timm = timm_mixup.Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=5)
    monkeypatch.setattr(timm, "_params_per_batch", lambda: (ratio, True))
    monkeypatch.setattr(timm_mixup.np.random, "randint", lambda *args, **kwargs: places.pop(0))
    images, expected = timm(*_batch())
    assert torch.equal(found, images)
    assert torch.allclose(targets, expected, atol=1e-6)


def test_both_take_turns() -> None:
    images, _ = _batch()
    mixing = Mixing(5, mixup=0.8, cutmix=1.0)
    # CutMix leaves numbers as they are, mixup none of them
    cut = sum(bool(torch.isin(_mixed(mixing, seed)[0], images).all()) for seed in range(100))
    assert 30 < cut < 70


def test_a_box_that_reaches_over_the_edge_is_cut_off() -> None:
    rows, columns = cut_box(10, 10, 0.0, row=0, column=9)
    assert (rows, columns) == (slice(0, 5), slice(4, 10))
    assert cut_box(10, 10, 1.0, row=5, column=5) == (slice(5, 5), slice(5, 5))


def test_smoothing_in_the_loss_equals_timms_smoothing_of_the_targets() -> None:
    _, targets = _mixed(Mixing(5, mixup=0.8, cutmix=0.0), 1)
    logits = torch.randn(BATCH, 5)
    ratio = float(np.random.default_rng(1).beta(0.8, 0.8))
    smoothed = timm_mixup.mixup_target(_batch()[1], 5, ratio, smoothing=0.1)
    ours = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)
    assert torch.allclose(ours, torch.nn.functional.cross_entropy(logits, smoothed), atol=1e-6)
