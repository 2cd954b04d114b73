"""Both doors against a hand-written loop, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from support import Innocent, difference, loader, make_student, make_teacher, trainer
from torch import nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.functional import kd_loss
from lightning_kd.methods import KD, FitNet

EPOCHS = 2


def methods() -> list[Any]:
    return [KD(weight=0.9), FitNet(layers={"layer2": "layer2"}, weight=2.0)]


class Start(L.Callback):
    """Seeds every step (loaders draw from the generator too) and keeps the connectors' initial weights."""

    def __init__(self) -> None:
        self.connector: nn.Module | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.connector = copy.deepcopy(pl_module._kd.methods[1].regressors[0])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(1000 * trainer.current_epoch + batch_idx)


def by_hand(student: Innocent, teacher: nn.Module, connector: nn.Module) -> tuple[Innocent, nn.Module]:
    """What a careful engineer writes without the library."""
    teacher.eval()
    features: dict[str, torch.Tensor] = {}
    student.model.layer2.register_forward_hook(lambda m, i, o: features.__setitem__("student", o))
    teacher.layer2.register_forward_hook(lambda m, i, o: features.__setitem__("teacher", o))
    parameters = [*student.parameters(), *connector.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1], gamma=0.1)
    student.train()
    for epoch in range(EPOCHS):
        for index, (x, y) in enumerate(loader()):
            torch.manual_seed(1000 * epoch + index)
            x = x + 0.1 * torch.randn_like(x)
            logits = student.model(x)
            with torch.no_grad():
                teacher_logits = teacher(x)
            hint = F.mse_loss(connector(features["student"], features["teacher"].shape[2:]), features["teacher"])
            loss = 0.1 * F.cross_entropy(logits, y) + 0.9 * kd_loss(logits, teacher_logits, 4.0) + 2.0 * hint
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    return student, connector


def through_door(door: int, call: str) -> tuple[Innocent, nn.Module, nn.Module]:
    student, start = make_student(call=call), Start()
    if door == 1:
        module: L.LightningModule = DistillationModule(student, make_teacher(), methods(), task_weight=0.1)
        callbacks: list[L.Callback] = [start]
        distillation = module.distillation
    else:
        module = student
        distillation = Distillation(make_teacher(), methods(), task_weight=0.1)
        callbacks = [distillation, start]
    trainer(max_epochs=EPOCHS, callbacks=callbacks).fit(module, loader())
    assert start.connector is not None
    return student, start.connector, distillation.engine.methods[1].regressors[0]


@pytest.mark.situation("eager, {call}(x)")
@pytest.mark.parametrize("call", ["model", "self", "forward", "model.forward"])
@pytest.mark.parametrize("door", [1, 2])
def test_student_and_connector_equal_a_hand_written_loop(door: int, call: str) -> None:
    student, initial_connector, connector = through_door(door, call)
    expected, expected_connector = by_hand(make_student(), make_teacher(), copy.deepcopy(initial_connector))
    assert difference(student.model, expected.model) == 0.0
    assert difference(connector, expected_connector) == 0.0
    assert difference(initial_connector, connector) > 0.0
    assert difference(student.model, make_student().model) > 0.0


@pytest.mark.parametrize("door", [1, 2])
def test_an_added_method_does_not_change_dropout_or_the_order_of_the_data(door: int) -> None:
    def run(method: Callable[[], Any]) -> Innocent:
        teacher, student = make_teacher(), make_student()
        torch.manual_seed(3)
        if door == 1:
            trainer().fit(DistillationModule(student, teacher, method()), loader(shuffle=True))
        else:
            trainer(callbacks=[Distillation(teacher, method())]).fit(student, loader(shuffle=True))
        return student

    plain = make_student()
    torch.manual_seed(3)
    trainer().fit(plain, loader(shuffle=True))
    assert difference(run(lambda: [KD(weight=0.0)]).model, plain.model) == 0.0
    assert difference(run(lambda: [FitNet(weight=0.0), KD(weight=0.0)]).model, plain.model) == 0.0
