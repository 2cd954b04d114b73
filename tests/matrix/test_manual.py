"""Manual optimization, with one optimizer and with two."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from support import CLASSES, ResNetLike, difference, loader, make_teacher, trainer
from torch import Tensor, nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.functional import kd_loss
from lightning_kd.methods import KD

DOORS = pytest.mark.parametrize("door", [1, 2])


class Manual(L.LightningModule):
    """One or two optimizers; with two, a critic guesses from the logits, in either order of the passes."""

    teacher: Any = None

    def __init__(self, optimizers: int = 1, critic_first: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = ResNetLike()
        self.critic = nn.Linear(CLASSES, 1)
        self.count, self.critic_first = optimizers, critic_first

    def kd(self, logits: Tensor, x: Tensor) -> Tensor | float:
        if self.teacher is None:
            return 0.0
        with torch.no_grad():
            taught = self.teacher[0](x)
        return 0.9 * kd_loss(logits, taught, 4.0)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        torch.manual_seed(batch_idx)
        scale = 1.0 if self.teacher is None else 0.1
        if self.count == 1:
            logits = self.model(x)
            self.update(self.optimizers(), scale * F.cross_entropy(logits, y) + self.kd(logits, x))
            return
        student, critic = self.optimizers()
        with torch.no_grad():
            fixed = self.model(x)
        logits = self.model(x)
        guess = self.critic(fixed)
        steps = [
            lambda: self.update(student, scale * F.cross_entropy(logits, y) + self.kd(logits, x)),
            lambda: self.update(critic, guess.pow(2).mean()),
        ]
        for step in reversed(steps) if self.critic_first else steps:
            step()

    def update(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def configure_optimizers(self) -> Any:
        first = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        return first if self.count == 1 else [first, torch.optim.SGD(self.critic.parameters(), lr=0.1)]


def fit(door: int, student: Any) -> None:
    settings: dict[str, Any] = {"task_weight": 0.1, "network": "model"}
    if door == 1:
        trainer().fit(DistillationModule(student, make_teacher(), KD(weight=0.9), **settings), loader())
    else:
        callback = Distillation(make_teacher(), KD(weight=0.9), **settings)
        trainer(callbacks=[callback]).fit(student, loader())


@pytest.mark.situation("manual optimization, optimizers: {optimizers}, the other one first: {critic_first}")
@DOORS
@pytest.mark.parametrize(("optimizers", "critic_first"), [(1, False), (2, False), (2, True)])
def test_manual_optimization(door: int, optimizers: int, critic_first: bool) -> None:
    torch.manual_seed(0)
    student = Manual(optimizers, critic_first)
    torch.manual_seed(0)
    expected = Manual(optimizers, critic_first)
    expected.teacher = [make_teacher().eval().requires_grad_(False)]
    fit(door, student)
    trainer().fit(expected, loader())
    assert difference(student, expected) == 0.0


@pytest.mark.situation("loss.backward() instead of self.manual_backward", result="refused")
@DOORS
def test_bypassing_manual_backward_is_refused(door: int) -> None:
    class Bypass(Manual):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            loss.backward()
            optimizer.step()

    with pytest.raises(RuntimeError, match=r"did not reach self.manual_backward\(loss\)"):
        fit(door, Bypass())
