"""Losses on feature maps ``(B, C, H, W)``, most of them on lists of stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Stages = Sequence[Tensor]


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error."""
    return F.mse_loss(student, teacher)


def attention_transfer_loss(student: Stages, teacher: Stages) -> Tensor:
    """Spatial attention maps."""
    losses = []
    for s, t in zip(student, teacher, strict=True):
        a, b = (F.normalize(f.pow(2).mean(1).flatten(1), dim=1) for f in (s, t))
        losses.append((a - b).pow(2).mean())
    return torch.stack(losses).sum()


def activation_boundary_loss(student: Stages, teacher: Stages, margin: float = 1.0) -> Tensor:
    """Hinge at the teacher's activation boundary."""
    losses = []
    for depth, (s, t) in enumerate(zip(student, teacher, strict=True), start=1):
        fires = t > 0
        hinge = fires * F.relu(margin - s).pow(2) + ~fires * F.relu(margin + s).pow(2)
        losses.append(hinge.sum() / len(s) * 2.0 ** (depth - len(student)))
    return torch.stack(losses).sum()


def cwd_loss(student: Stages, teacher: Stages, temperature: float = 1.0) -> Tensor:
    """Divergence of every channel over the positions."""
    losses = []
    for s, t in zip(student, teacher, strict=True):
        log_p = F.log_softmax(s.flatten(2) / temperature, dim=2)
        kl = F.kl_div(log_p, F.softmax(t.flatten(2) / temperature, dim=2), reduction="sum")
        losses.append(kl * temperature**2 / (s.shape[0] * s.shape[1]))
    return torch.stack(losses).sum()


def pkd_loss(student: Stages, teacher: Stages) -> Tensor:
    """Standardised channels."""
    losses = []
    for s, t in zip(student, teacher, strict=True):
        a, b = ((f - f.mean((0, 2, 3), keepdim=True)) / (f.std((0, 2, 3), keepdim=True) + 1e-6) for f in (s, t))
        losses.append(F.mse_loss(a, b) / 2)
    return torch.stack(losses).sum()


def hcl_loss(student: Stages, teacher: Stages) -> Tensor:
    """Squared error of a pyramid of poolings."""
    losses = []
    for s, t in zip(student, teacher, strict=True):
        loss, weights = F.mse_loss(s, t), 1.0
        for level, size in enumerate([size for size in (4, 2, 1) if size < s.shape[2]], start=1):
            pooled = F.mse_loss(F.adaptive_avg_pool2d(s, size), F.adaptive_avg_pool2d(t, size))
            loss, weights = loss + pooled / 2**level, weights + 1 / 2**level
        losses.append(loss / weights)
    return torch.stack(losses).sum()


def ofd_loss(student: Stages, teacher: Stages, margins: Stages) -> Tensor:
    """Partial squared error to the margin ReLU."""
    losses = []
    for depth, (s, t, margin) in enumerate(zip(student, teacher, margins, strict=True), start=1):
        wanted = torch.max(t, margin.view(1, -1, 1, 1))
        counts = (s > wanted) | (wanted > 0)
        losses.append((counts * (s - wanted).pow(2)).sum() / len(s) * 2.0 ** (depth - len(student)))
    return torch.stack(losses).sum()


def vid_loss(means: Stages, teacher: Stages, variances: Stages) -> Tensor:
    """Likelihood of the teacher."""
    losses = []
    for mean, t, variance in zip(means, teacher, variances, strict=True):
        variance = variance.view(1, -1, 1, 1)
        losses.append(0.5 * ((mean - t).pow(2) / variance + variance.log()).mean())
    return torch.stack(losses).sum()


def fsp_loss(student: Stages, teacher: Stages) -> Tensor:
    """Flow between consecutive stages."""
    losses = []
    for (s, t), (next_s, next_t) in itertools.pairwise(zip(student, teacher, strict=True)):
        losses.append(F.mse_loss(_flow(s, next_s), _flow(t, next_t)))
    return torch.stack(losses).sum()


def _flow(feature: Tensor, following: Tensor) -> Tensor:
    feature = F.adaptive_avg_pool2d(feature, following.shape[-1])
    return feature.flatten(2) @ following.flatten(2).transpose(1, 2) / feature.shape[2:].numel()


def ickd_loss(student: Stages, teacher: Stages) -> Tensor:
    """Correlations of the channels."""
    losses = []
    for s, t in zip(student, teacher, strict=True):
        a, b = (F.normalize(f.flatten(2) @ f.flatten(2).transpose(1, 2), dim=2) for f in (s, t))
        losses.append((a - b).pow(2).sum() / (s.shape[0] * s.shape[1]))
    return torch.stack(losses).sum()


def nst_loss(student: Stages, teacher: Stages) -> Tensor:
    """Maximum mean discrepancy of the channels."""
    losses = []
    for s, t in zip(student, teacher, strict=True):
        a, b = F.normalize(s.flatten(2), dim=2), F.normalize(t.flatten(2), dim=2)
        kernels = [(x @ y.transpose(1, 2)).pow(2).mean() for x, y in ((a, a), (b, b), (a, b))]
        losses.append(kernels[0] + kernels[1] - 2 * kernels[2])
    return torch.stack(losses).sum()


def kd_svd_loss(student: Stages, teacher: Stages) -> Tensor:
    """Leading singular vectors of consecutive stages."""
    aligned = []
    for s, t in zip(student, teacher, strict=True):
        _, values, right = torch.linalg.svd(t.flatten(2).transpose(1, 2), full_matrices=False)
        wanted = right[:, :1].transpose(1, 2)
        scale = F.normalize(values[:, None, :1], dim=2)
        _, _, right = torch.linalg.svd(s.flatten(2).transpose(1, 2), full_matrices=False)
        candidates = right[:, :4].transpose(1, 2)
        cosine = candidates.transpose(1, 2) @ wanted
        best = cosine.abs().argmax(1, keepdim=True)
        chosen = candidates.gather(2, best.expand(-1, candidates.shape[1], -1)) * cosine.gather(1, best).sign()
        aligned.append((chosen * scale, wanted * scale))
    losses = []
    for (s, t), (next_s, next_t) in itertools.pairwise(aligned):
        phi_s, phi_t = (torch.exp(-(y[:, :, None] - x[:, None]).pow(2) / 8) for x, y in ((s, next_s), (t, next_t)))
        losses.append((phi_s - phi_t).pow(2).sum() / len(s))
    return torch.stack(losses).sum()


def factor_transfer_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Normalised factors."""
    return F.l1_loss(F.normalize(student.flatten(1), dim=1), F.normalize(teacher.flatten(1), dim=1))


def affinity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Affinities of the positions, channel by channel."""
    u, v = (F.normalize(f.flatten(2), dim=2) for f in (student, teacher))
    difference = u.unsqueeze(3) * u.unsqueeze(2) - v.unsqueeze(3) * v.unsqueeze(2)
    distances: Tensor = difference.flatten(2).norm(dim=2).sum(1) / u.shape[2]
    return distances.mean()


def semantic_calibration_loss(errors: Tensor, attention: Tensor) -> Tensor:
    """Attention-weighted errors."""
    return (errors * attention).sum(2).mean()
