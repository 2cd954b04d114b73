"""The peers' parameter group follows the student's schedule with its own learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from support import Innocent, ResNetLike, loader, trainer
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim import lr_scheduler as schedules

from lightning_kd import Distillation
from lightning_kd.engine.optimizers import optimizers_in
from lightning_kd.engine.peers import PeerOptimizers
from lightning_kd.methods.online import DML

STEPS = 6


class Scheduled(Innocent):
    def __init__(self, make: Callable[[Optimizer], Any], optimizer: type = SGD) -> None:
        super().__init__()
        self.make, self.optimizer = make, optimizer

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters(), lr=0.1, **({"momentum": 0.9} if self.optimizer is SGD else {}))
        return [optimizer], [{"scheduler": self.make(optimizer), "interval": "step"}]


class Rates(L.Callback):
    """Learning rate and momentum of every group at every step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.momenta: list[list[float]] = []

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        groups = trainer.optimizers[0].param_groups
        self.rates.append([group["lr"] for group in groups])
        self.momenta.append([group.get("momentum", 0.0) for group in groups])


SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, max_lr=0.5, total_steps=STEPS + 1),
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 4]),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, STEPS),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 0.1, 0.4, step_size_up=2),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.25, total_iters=3), schedules.ExponentialLR(o, 0.5)], [3]
    ),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler(
        [schedules.LinearLR(o, 0.25, total_iters=3), schedules.ExponentialLR(o, 0.5)]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_group_follows_in_proportion(name: str) -> None:
    rates = Rates()
    student = Scheduled(SCHEDULES[name])
    # the student's rate at the start: OneCycleLR begins at max_lr / 25
    start = 0.02 if name == "OneCycleLR" else 0.1
    distillation = Distillation([ResNetLike(5)], DML(peer_lr=start / 4))
    trainer(max_steps=STEPS, callbacks=[distillation, rates]).fit(student, loader())
    students, peers = zip(*rates.rates, strict=True)
    assert len(set(students)) > 2
    assert peers == pytest.approx([rate / 4 for rate in students])
    assert all(first == second for first, second in rates.momenta)


def test_plateau_schedules_follow() -> None:
    class Plateau(Innocent):
        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=0.1)
            scheduler = schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, min_lr=0.03, mode="max")
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "count"}}

        def on_train_epoch_end(self) -> None:
            self.log("count", -float(self.current_epoch))

    rates = Rates()
    distillation = Distillation([ResNetLike(5)], DML(peer_lr=0.01))
    trainer(max_epochs=5, limit_train_batches=1, callbacks=[distillation, rates]).fit(Plateau(), loader())
    students, peers = zip(*rates.rates, strict=True)
    assert students == pytest.approx([0.1, 0.1, 0.05, 0.03, 0.03])
    assert peers == pytest.approx([rate / 10 for rate in students])


def test_weight_decay_of_its_own_with_adam() -> None:
    distillation = Distillation([ResNetLike(5)], DML(peer_weight_decay=0.3))
    run = trainer(max_steps=1, callbacks=[distillation])
    run.fit(Scheduled(SCHEDULES["MultiStepLR"], Adam), loader())
    student, peer = run.optimizers[0].param_groups
    assert (student["weight_decay"], peer["weight_decay"]) == (0, 0.3)
    assert student["lr"] == peer["lr"]


def test_a_peer_inside_the_student_is_not_trained_twice() -> None:
    """``self.parameters()`` includes a peer that the student holds as an attribute."""

    class Holds(Innocent):
        def __init__(self) -> None:
            super().__init__()
            self.helper = ResNetLike(5)

    student = Holds()
    run = trainer(max_steps=1, callbacks=[Distillation([student.helper], DML(peer_lr=0.01), network="model")])
    run.fit(student, loader())
    groups = [[id(parameter) for parameter in group["params"]] for group in run.optimizers[0].param_groups]
    ours = {id(parameter) for parameter in student.helper.parameters()}
    assert not ours & set(groups[0])
    assert set(groups[1]) == ours


# what a peer's own configure_optimizers may return


class Brings(L.LightningModule):
    def __init__(self, shape: str) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.shape = shape

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=1.0)
        if self.shape == "plateau":
            return {"optimizer": optimizer, "lr_scheduler": schedules.ReduceLROnPlateau(optimizer)}
        scheduler = schedules.ExponentialLR(optimizer, 0.5)
        settings = {"scheduler": scheduler, "interval": "step"}
        return {
            "optimizer": optimizer,
            "list": [optimizer],
            "two lists": ([optimizer], [settings]),
            "dictionary": {"optimizer": optimizer, "lr_scheduler": settings},
            "list of dictionaries": [{"optimizer": optimizer, "lr_scheduler": settings}],
            "bare scheduler": {"optimizer": optimizer, "lr_scheduler": scheduler},
            "frequency": {"optimizer": optimizer, "lr_scheduler": {**settings, "frequency": 2}},
        }[self.shape]


@pytest.mark.parametrize(
    ("shape", "after_step", "after_epoch"),
    [
        ("optimizer", 1.0, 1.0),
        ("list", 1.0, 1.0),
        ("two lists", 0.5, 0.5),
        ("dictionary", 0.5, 0.5),
        ("list of dictionaries", 0.5, 0.5),
        ("bare scheduler", 1.0, 0.5),
    ],
)
def test_schedulers_that_a_peer_brings(shape: str, after_step: float, after_epoch: float) -> None:
    peer = Brings(shape)
    driver = PeerOptimizers([peer])
    peer.layer.weight.grad = torch.ones(2, 2)
    before = peer.layer.weight.detach().clone()
    driver.step()
    groups = driver.optimizers[0].param_groups
    assert groups[0]["lr"] == after_step
    driver.end_epoch()
    assert groups[0]["lr"] == after_epoch
    torch.testing.assert_close(peer.layer.weight.detach(), before - 1)
    assert peer.layer.weight.grad is None


@pytest.mark.parametrize(("shape", "given"), [("plateau", "ReduceLROnPlateau"), ("frequency", "with frequency=2")])
def test_schedulers_that_cannot_be_driven_are_refused(shape: str, given: str) -> None:
    with pytest.raises(ValueError, match=given):
        PeerOptimizers([Brings(shape)])


def test_optimizers_are_found_in_every_shape() -> None:
    for shape in ("optimizer", "list", "two lists", "dictionary", "list of dictionaries", "bare scheduler"):
        assert len(optimizers_in(Brings(shape).configure_optimizers())) == 1
