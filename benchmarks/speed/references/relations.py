"""Losses on embeddings ``(B, D)`` and on the scores of pairs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rkd_loss(student: Tensor, teacher: Tensor, distance_weight: float = 25.0, angle_weight: float = 50.0) -> Tensor:
    """Distances and angles."""
    sides = []
    for features in (student, teacher):
        difference = features.unsqueeze(0) - features.unsqueeze(1)
        distance = difference.norm(dim=2)
        units = F.normalize(difference, dim=2)
        sides.append((distance / distance[distance > 0].mean(), units @ units.transpose(1, 2)))
    (distances, angles), (teacher_distances, teacher_angles) = sides
    loss = distance_weight * F.smooth_l1_loss(distances, teacher_distances)
    return loss + angle_weight * F.smooth_l1_loss(angles, teacher_angles)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Neighbourhoods."""
    neighbourhoods = []
    for features in (student, teacher):
        units = features / (features.norm(dim=1, keepdim=True) + 1e-7)
        similarity = (units @ units.T + 1) / 2
        neighbourhoods.append(similarity / similarity.sum(1, keepdim=True))
    p, q = neighbourhoods
    divergence: Tensor = q * ((q + 1e-7) / (p + 1e-7)).log()
    return divergence.mean()


def similarity_preserving_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Similarities of the samples, by stages."""
    losses = []
    for s, t in zip(student, teacher, strict=True):
        a, b = (F.normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (s, t))
        losses.append((a - b).pow(2).mean())
    return torch.stack(losses).sum()


def correlation_congruence_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Products of the differences of consecutive samples."""
    gap = (student - teacher).abs()
    return (gap[:-1] * gap[1:]).sum(1).mean()


def rsd_loss(student: Tensor, teacher: Tensor, kappa: float = 0.01) -> Tensor:
    """Cross-correlation of the dimensions, towards the identity."""
    s, t = ((f - f.mean(0)) / (f.std(0, correction=0) + 1e-5) for f in (student, teacher))
    correlation = t.T @ s / len(s)
    identity = torch.eye(len(correlation), dtype=correlation.dtype)
    squares = (correlation - identity).pow(2)
    return (squares * torch.where(identity == 1, 1.0, kappa)).sum()


def srd_loss(student: Tensor, teacher: Tensor, exponent: float = 4.0) -> Tensor:
    """Logarithm of the summed powers of normalised differences."""
    s, t = (F.batch_norm(f, None, None, training=True) for f in (student, teacher))
    return (s - t).abs().pow(exponent).sum().log()


def nd_loss(student: Tensor, teacher: Tensor, class_means: Tensor, target: Tensor) -> Tensor:
    """Norm and direction."""
    directions = F.normalize(class_means, dim=1)[target]
    norm = torch.max(student.norm(dim=1), teacher.norm(dim=1))
    losses: Tensor = 1 - (student * directions).sum(1) / norm
    return losses.mean()


def pad_l2_loss(student: Tensor, teacher: Tensor, log_variances: Tensor, eps: float = 1e-6) -> Tensor:
    """Squared error over a variance."""
    return ((teacher - student).pow(2) / (log_variances.exp() + eps) + log_variances).mean()


def noise_contrastive_loss(scores: Tensor, log_partition: Tensor) -> Tensor:
    """One positive, first in its row, among noise."""
    logits = scores - log_partition - math.log(scores.shape[1] - 1)
    return -(F.logsigmoid(logits[:, 0]) + F.logsigmoid(-logits[:, 1:]).sum(1)).mean()


def mi_alpha_loss(scores: Tensor, log_baseline: Tensor, alpha: float = 0.5) -> Tensor:
    """Interpolated bound on the mutual information."""
    batch = len(scores)
    others = ~torch.eye(batch, dtype=torch.bool)
    exponential = scores.exp()
    contrast = (exponential.sum(1, keepdim=True) - exponential) / (batch - 1)
    log_m = (alpha * log_baseline.exp().unsqueeze(1) + (1 - alpha) * contrast).log()
    joint = (scores.diagonal().unsqueeze(1) - log_m)[others].mean()
    marginal = (scores - log_m.diagonal().unsqueeze(1)).exp()[others].mean()
    return marginal - joint - 1
