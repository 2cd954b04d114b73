"""The loop that one writes without a library: plain PyTorch, one ``loss.item()`` an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors import ConvRegressor
from lightning_kd.functional import attention_transfer_loss, dist_loss, hint_loss, kd_loss, rkd_loss
from peers.pair import HINT, STAGES, Terms, optimizer

Tapped = dict[str, Tensor]


def train(
    student: nn.Module,
    teacher: nn.Module,
    terms: Terms,
    batches: Iterable[tuple[Tensor, Tensor]],
    on_step: Callable[[], None],
) -> None:
    """Train for one pass over the batches.

    Args:
        student: trained.
        teacher: frozen.
        terms: what the loss is made of.
        batches: images and labels.
        on_step: called after every step.
    """
    taps = _taps(terms)
    tapped, taught = _hook(student, taps), _hook(teacher, taps)
    regressor = None
    if "fitnet" in terms.terms:
        with torch.no_grad():
            shapes = [_shape(network, kept) for network, kept in ((student, tapped), (teacher, taught))]
        regressor = ConvRegressor(*shapes)
    sgd = optimizer(nn.ModuleList([student, *([] if regressor is None else [regressor])]))
    student.train()
    teacher.eval().requires_grad_(False)
    for images, labels in batches:
        logits = student(images)
        with torch.no_grad():
            soft = teacher(images)
        loss = terms.task * F.cross_entropy(logits, labels)
        for name, weight in terms.terms.items():
            loss = loss + weight * _term(name, logits, soft, tapped, taught, regressor)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        on_step()


def _term(
    name: str, logits: Tensor, soft: Tensor, tapped: Tapped, taught: Tapped, regressor: nn.Module | None
) -> Tensor:
    if name == "kd":
        return kd_loss(logits, soft, 4.0)
    if name == "at":
        return attention_transfer_loss([tapped[stage] for stage in STAGES], [taught[stage] for stage in STAGES])
    if name == "rkd":
        return rkd_loss(tapped["fc.0"], taught["fc.0"], distance_weight=25.0, angle_weight=50.0)
    if name == "dist":
        return dist_loss(logits, soft)
    assert regressor is not None
    return hint_loss(regressor(tapped[HINT], tuple(taught[HINT].shape[2:])), taught[HINT])


def _taps(terms: Terms) -> list[str]:
    layers = {"at": list(STAGES), "fitnet": [HINT], "rkd": ["fc.0"]}
    return [layer for name in terms.terms for layer in layers.get(name, [])]


def _hook(network: nn.Module, layers: list[str]) -> Tapped:
    kept: Tapped = {}
    for name in layers:
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: kept.__setitem__(name, output)
        )
    return kept


def _shape(network: nn.Module, kept: Tapped) -> tuple[int, ...]:
    was_training = network.training
    network.eval()(torch.zeros(2, 3, 32, 32))
    network.train(was_training)
    return tuple(kept[HINT].shape[1:])
