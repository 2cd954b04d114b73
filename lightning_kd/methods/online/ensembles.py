"""How KDCL makes one teacher out of the predictions of networks that train together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits

Ensemble = Callable[[Sequence[Tensor], Tensor], Tensor]
"""From the logits of the networks, ``(B, C)`` each, and the labels ``(B,)`` to the teacher's logits ``(B, C)``."""

_STEPS = 60
_FIRST_STEP = 2.0
_SHRINK = 0.9
_RIDGE = 1e-6


def naive_ensemble(network_logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """Per sample, the logits of the network whose cross-entropy is the lowest.

    Args:
        network_logits: logits of the networks, ``(B, C)`` each.
        target: class indices, ``(B,)``.

    Returns:
        ``(B, C)``, without gradient, at least float32.

    Raises:
        ValueError: if there is no network, shapes differ or the labels do not fit.
    """
    stacked = _stack(network_logits, target)
    best = _cross_entropies(stacked, target).argmin(0)
    return stacked.gather(0, best.view(1, -1, 1).expand(1, -1, stacked.shape[-1])).squeeze(0)


def linear_ensemble(network_logits: Sequence[Tensor], target: Tensor) -> Tensor:
    r"""The convex combination :math:`\sum_i w_i z_i` of the logits with the lowest cross-entropy over the batch.

    The problem is convex in the weights; 60 exponentiated-gradient steps of geometrically falling size solve it. The
    result is never worse than the mean or any single network.

    Args:
        network_logits: logits of the networks, ``(B, C)`` each.
        target: class indices, ``(B,)``.

    Returns:
        ``(B, C)``, without gradient, at least float32.

    Raises:
        ValueError: if there is no network, shapes differ or the labels do not fit.
    """
    stacked = _stack(network_logits, target)
    label = F.one_hot(target, stacked.shape[-1]).to(stacked.dtype)
    count = len(stacked)
    best = _combine(stacked.new_full((count,), 1 / count), stacked)
    lowest = F.cross_entropy(best, target)
    for corner in stacked:
        best, lowest = _better(best, lowest, corner, target)
    log_weights = stacked.new_zeros(count)
    step = _FIRST_STEP
    for _ in range(_STEPS):
        combined = _combine(log_weights.softmax(0), stacked)
        best, lowest = _better(best, lowest, combined, target)
        slope = ((combined.softmax(-1) - label) * stacked).sum(-1).mean(-1)
        slope = slope - slope.mean()
        log_weights = log_weights - step * slope / slope.abs().max().clamp_min(torch.finfo(slope.dtype).tiny)
        step *= _SHRINK
    return best


def min_logit_ensemble(network_logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """The elementwise minimum over the networks of their logits relative to the label's logit.

    The label gets 0, so the ensemble is at least as sure of it as the surest network: its cross-entropy is the lowest.

    Args:
        network_logits: logits of the networks, ``(B, C)`` each.
        target: class indices, ``(B,)``.

    Returns:
        ``(B, C)``, without gradient, at least float32.

    Raises:
        ValueError: if there is no network, shapes differ or the labels do not fit.
    """
    stacked = _stack(network_logits, target)
    own = stacked.gather(-1, target.view(1, -1, 1).expand(len(stacked), -1, 1))
    return (stacked - own).amin(0)


def general_ensemble(network_logits: Sequence[Tensor], target: Tensor) -> Tensor:
    r"""The combination of the logits with the smallest estimated generalisation error.

    With the error correlations :math:`C_{ij} = \langle p_i - m, p_j - m \rangle` (:math:`m` the one-hot label, averaged
    over samples) the weights :math:`w \propto C^{-1}\mathbf 1` sum to one and minimise :math:`w^\top C w`.

    The paper estimates ``C`` on a validation set after every epoch. Here it is estimated on the current batch, a small
    ridge keeps it invertible where networks agree, and negative weights are set to zero: both are ours. For two
    networks the latter gives the constrained optimum.

    Args:
        network_logits: logits of the networks, ``(B, C)`` each.
        target: class indices, ``(B,)``.

    Returns:
        ``(B, C)``, without gradient, at least float32.

    Raises:
        ValueError: if there is no network, shapes differ or the labels do not fit.
    """
    stacked = _stack(network_logits, target)
    error = stacked.softmax(-1) - F.one_hot(target, stacked.shape[-1]).to(stacked.dtype)
    # elementwise: autocast would lower the precision of a matrix product
    correlation = (error[:, None] * error[None]).sum(-1).mean(-1)
    identity = torch.eye(len(stacked), dtype=stacked.dtype, device=stacked.device)
    scale = correlation.diagonal().mean() + torch.finfo(stacked.dtype).tiny / _RIDGE
    ones = stacked.new_ones(len(stacked), 1)
    weights = torch.linalg.solve(correlation / scale + _RIDGE * identity, ones).squeeze(-1).clamp_min(0)
    return _combine(weights / weights.sum(), stacked)


def _stack(network_logits: Sequence[Tensor], target: Tensor) -> Tensor:
    if not network_logits:
        raise ValueError("an ensemble needs the logits of at least one network, got an empty list")
    for logits in network_logits:
        check_same_logits(network_logits[0], logits)
    check_labels(network_logits[0], target)
    return torch.stack([at_least_float32(logits.detach()) for logits in network_logits])


def _cross_entropies(stacked: Tensor, target: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(logits, target, reduction="none") for logits in stacked])


def _combine(weights: Tensor, stacked: Tensor) -> Tensor:
    return (weights.view(-1, 1, 1) * stacked).sum(0)


def _better(best: Tensor, lowest: Tensor, candidate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    loss = F.cross_entropy(candidate, target)
    return torch.where(loss < lowest, candidate, best), torch.minimum(loss, lowest)
