"""Calibration over a data set: reliability, negative log-likelihood and Brier score, synchronised over ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.utilities import dim_zero_cat


def adaptive_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> Tensor:
    """Expected calibration error over bins of equal mass rather than equal width.

    Args:
        confidence: confidence in the predicted class, ``(N,)``.
        correct: whether the prediction was right, ``(N,)``.
        bins: number of bins; sizes differ by one sample at most.

    Returns:
        Scalar.

    Reference: Nguyen and O'Connor, "Posterior Calibration and Exploratory Analysis for Natural Language Processing
    Models", EMNLP 2015, arXiv:1508.05154.

    >>> import torch
    >>> adaptive_calibration_error(torch.tensor([0.5, 0.5, 1.0, 1.0]), torch.tensor([1, 0, 1, 1]), bins=2).item()
    0.0
    """
    order = confidence.argsort()
    gaps = (correct.to(confidence.dtype) - confidence)[order]
    return torch.stack([part.sum().abs() for part in gaps.tensor_split(bins)]).sum() / confidence.numel()


def reliability(confidence: Tensor, correct: Tensor, bins: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Mean confidence, accuracy and share of samples in bins of equal width; zeros in empty bins.

    Args:
        confidence: ``(N,)``.
        correct: ``(N,)``.
        bins: number of bins.

    Returns:
        Three tensors ``(bins,)``.
    """
    place = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    count = torch.bincount(place, minlength=bins).clamp_min(1)
    mean = confidence.new_zeros(bins).index_add_(0, place, confidence) / count
    accuracy = confidence.new_zeros(bins).index_add_(0, place, correct.to(confidence.dtype)) / count
    return mean, accuracy, torch.bincount(place, minlength=bins) / max(confidence.numel(), 1)


class CalibrationMetric(Metric):
    """Collects confidences; computes ECE, adaptive ECE, NLL and Brier score.

    Args:
        bins: number of bins of both calibration errors.
    """

    full_state_update = False

    confidence: list[Tensor]
    correct: list[Tensor]
    nll: Tensor
    brier: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("confidence", default=[], dist_reduce_fx="cat")
        self.add_state("correct", default=[], dist_reduce_fx="cat")
        self.add_state("nll", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("brier", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Take in logits ``(B, C)`` and class indices ``(B,)``."""
        log_probabilities = F.log_softmax(logits, dim=1)
        probabilities = log_probabilities.exp()
        confidence, predicted = probabilities.max(1)
        self.confidence.append(confidence)
        self.correct.append(predicted == target)
        self.nll += F.nll_loss(log_probabilities, target, reduction="sum")
        of_target = probabilities.gather(1, target.unsqueeze(1)).squeeze(1)
        # the sum over classes of (p - y)^2, without a one-hot matrix
        self.brier += (probabilities.square().sum(1) - 2 * of_target + 1).sum()

    def compute(self) -> dict[str, Tensor]:
        """``ece``, ``adaptive_ece``, ``nll`` and ``brier``; nothing if no sample was seen."""
        confidence, correct = self.collected()
        if confidence.numel() == 0:
            return {}
        return {
            "ece": binary_calibration_error(confidence, correct.int(), n_bins=self.bins, validate_args=False),
            "adaptive_ece": adaptive_calibration_error(confidence, correct, self.bins),
            "nll": (self.nll / confidence.numel()).float(),
            "brier": (self.brier / confidence.numel()).float(),
        }

    def collected(self) -> tuple[Tensor, Tensor]:
        """Confidences and hits so far, of all ranks inside a synchronised context."""
        if not isinstance(self.confidence, Tensor) and not self.confidence:
            empty = torch.zeros(0, device=self.device)
            return empty, empty.bool()
        return dim_zero_cat(self.confidence).clamp_max(1.0), dim_zero_cat(self.correct)
