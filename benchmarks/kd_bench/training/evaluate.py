"""Test predictions of a trained network, and the scores that follow from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_calibration_error

from kd_bench.data.base import BenchmarkData
from kd_bench.predictions import Predictions
from kd_bench.results import Scores

ECE_BINS = 15


def test_logits(network: nn.Module, data: BenchmarkData) -> tuple[Tensor, Tensor]:
    """Logits ``(N, C)`` and labels ``(N,)`` of the test split, on the CPU; the network is put into eval mode."""
    device = next(network.parameters()).device
    network.eval()
    logits, labels = [], []
    with torch.no_grad():
        for images, target in data.test_dataloader():
            logits.append(network(images.to(device)).cpu())
            labels.append(target.cpu())
    return torch.cat(logits), torch.cat(labels)


def score(predictions: Predictions) -> Scores:
    """All scores of a run, from its stored predictions alone."""
    return Scores(
        accuracy=predictions.accuracy,
        nll=predictions.nll,
        ece=expected_calibration_error(predictions),
        agreement=predictions.agreement,
    )


def expected_calibration_error(predictions: Predictions) -> float:
    """Mean distance between confidence and accuracy over 15 equal-width bins, weighted by their size."""
    # for a fixed predicted class the multi-class error is the binary one of "the prediction is right"
    error = binary_calibration_error(
        torch.from_numpy(predictions.confidence.copy()),
        torch.from_numpy(predictions.correct).long(),
        n_bins=ECE_BINS,
        norm="l1",
    )
    return min(1.0, float(error))
