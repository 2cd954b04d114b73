"""``torch.compile`` of the network and of the LightningModule, through both doors, against the hand-written module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from by_hand import DOORS, ByHand, compare, distil, fit_by_hand, seeded, through_door
from support import Innocent, difference
from torch import Tensor


def compile_attribute(student: Any) -> Any:
    torch.compiler.reset()
    student.model = torch.compile(student.model, backend="aot_eager")
    return student


def compile_in_place(student: Any) -> Any:
    torch.compiler.reset()
    student.model.compile(backend="aot_eager")
    return student


@pytest.mark.situation("torch.compile of the sub-module, {prepare.__name__}")
@DOORS
@pytest.mark.parametrize("prepare", [compile_attribute, compile_in_place])
def test_compiled_network(door: int, prepare: Any) -> None:
    assert compare(door, prepare=prepare) == 0.0


@pytest.mark.situation("torch.compile(fullgraph=True) of the sub-module")
@DOORS
def test_compiled_network_fullgraph(door: int) -> None:
    def full(student: Any) -> Any:
        torch.compiler.reset()
        student.model = torch.compile(student.model, backend="aot_eager", fullgraph=True)
        return student

    assert compare(door, prepare=full) == 0.0


class Bare(Innocent):
    """No logging: torch.compile of a whole LightningModule and ``self.log`` do not go together in Lightning."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x + 0.1), y)


class BareByHand(ByHand):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.clear()
        x, y = batch
        logits = self.model(x + 0.1)
        kd, hint = distil(self, self.seen, logits, x + 0.1)
        return 0.1 * F.cross_entropy(logits, y) + kd + hint


@pytest.mark.situation("torch.compile of the LightningModule", result="equal to 1e-6")
@DOORS
def test_compiled_lightning_module(door: int) -> None:
    torch.compiler.reset()
    distilled = seeded(Bare)
    initial, _, _ = through_door(door, torch.compile(distilled, backend="aot_eager"), barebones=False)
    expected = fit_by_hand(seeded(BareByHand), initial)
    assert difference(distilled.model, expected.model) < 1e-6
