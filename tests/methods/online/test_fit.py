"""Peers in a Trainer's fit, against loops written by hand with one optimizer a network."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from support import Innocent, ResNetLike, difference, loader, make_student, make_teacher, trainer
from torch import Tensor, nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods.logits.kd import kd_loss
from lightning_kd.methods.online import BDKD, DML, KDCL, SwitOKD, balanced_divergence_loss, mutual_learning_loss

STEPS = 5
PEER_LR = 0.02
PEER_DECAY = 5e-3


class Seeded(L.Callback):
    """Dropout and the student's noise must be the same in the hand-written loop."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(trainer.global_step)


class OwnOptimizer(L.LightningModule):
    """A peer that brings its optimizer and a scheduler."""

    def __init__(self, network: nn.Module, interval: str = "step") -> None:
        super().__init__()
        self.model = network
        self.interval = interval

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=PEER_LR, momentum=0.9, weight_decay=PEER_DECAY)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


def fit(student: Innocent, peers: list[nn.Module], method: Any, door: int = 2, **kwargs: Any) -> L.Trainer:
    module: L.LightningModule = student
    callbacks = [Seeded(), *kwargs.pop("callbacks", [])]
    if door == 1:
        module = DistillationModule(student, peers, method)
    else:
        callbacks = [Distillation(peers, method), *callbacks]
    run = trainer(**{"max_steps": STEPS, **kwargs, "callbacks": callbacks})
    run.fit(module, loader())
    return run


def by_hand(student: Innocent, peers: list[nn.Module], losses: Any, gamma: float = 1.0) -> None:
    """One optimizer and one backward for each network; ``losses`` gets all logits and the labels."""
    networks = [student.model, *peers]
    rates = [(0.1, 1e-3), *[(PEER_LR, PEER_DECAY)] * len(peers)]
    optimizers = [
        torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
        for network, (lr, decay) in zip(networks, rates, strict=True)
    ]
    for network in networks:
        network.train()
    for step, (x, y) in zip(range(STEPS), loader(), strict=False):
        torch.manual_seed(step)
        x = x + 0.1 * torch.randn_like(x)
        outputs = [network(x) for network in networks]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for position, loss in enumerate(losses(outputs, y)):
            if loss is not None:
                loss.backward(inputs=list(networks[position].parameters()), retain_graph=True)
        for optimizer in optimizers:
            optimizer.step()
        for optimizer in optimizers[1:]:
            for group in optimizer.param_groups:
                group["lr"] *= gamma


def dml_losses(outputs: list[Tensor], y: Tensor) -> list[Tensor]:
    others = [outputs[:i] + outputs[i + 1 :] for i in range(len(outputs))]
    return [
        F.cross_entropy(output, y) + mutual_learning_loss(output, other)
        for output, other in zip(outputs, others, strict=True)
    ]


def bdkd_losses(outputs: list[Tensor], y: Tensor) -> list[Tensor]:
    student, teacher = outputs
    return [
        F.cross_entropy(student, y) + balanced_divergence_loss(student, teacher),
        F.cross_entropy(teacher, y) + kd_loss(teacher, student, 1.0),
    ]


def make_peers(count: int) -> list[nn.Module]:
    torch.manual_seed(50)
    return [ResNetLike(width) for width in (6, 5)[:count]]


def compare(student: Innocent, peers: list[nn.Module], losses: Any, gamma: float = 1.0) -> None:
    reference, reference_peers = make_student(), make_peers(len(peers))
    by_hand(reference, reference_peers, losses, gamma)
    assert difference(student.model, reference.model) == 0.0
    for peer, expected in zip(peers, reference_peers, strict=True):
        assert difference(peer, expected) == 0.0
        assert difference(peer, make_peers(len(peers))[peers.index(peer)]) > 1e-3


@pytest.mark.parametrize("door", [1, 2])
@pytest.mark.parametrize("count", [1, 2])
def test_mutual_learning(door: int, count: int) -> None:
    student, peers = make_student(), make_peers(count)
    run = fit(student, peers, DML(peer_lr=PEER_LR, peer_weight_decay=PEER_DECAY), door)
    compare(student, peers, dml_losses)
    assert [group["lr"] for group in run.optimizers[0].param_groups] == [0.1, PEER_LR]


@pytest.mark.parametrize("door", [1, 2])
def test_balanced_divergences(door: int) -> None:
    student, peers = make_student(), make_peers(1)
    fit(student, peers, BDKD(peer_lr=PEER_LR, peer_weight_decay=PEER_DECAY), door)
    compare(student, peers, bdkd_losses)


@pytest.mark.parametrize("door", [1, 2])
def test_peer_with_its_own_optimizer(door: int) -> None:
    student, peers = make_student(), make_peers(1)
    run = fit(student, [OwnOptimizer(peers[0])], DML(), door)
    compare(student, peers, dml_losses, gamma=0.8)
    assert len(run.optimizers[0].param_groups) == 1


def test_peers_follow_the_student_by_default() -> None:
    student, peers = make_student(), make_peers(1)
    run = fit(student, peers, DML())
    first, second = run.optimizers[0].param_groups
    assert {key: value for key, value in first.items() if key != "params"} == {
        key: value for key, value in second.items() if key != "params"
    }


def test_peers_train_and_are_given_back(tmp_path) -> None:
    student, peers = make_student(), make_peers(1)
    distillation = Distillation(peers, KDCL())
    run = trainer(tmp_path, max_steps=2, callbacks=[distillation])
    run.fit(student, loader())
    assert distillation.peers == peers
    assert peers[0].training
    run.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=False)
    assert all(not key.startswith("_kd") for key in saved["state_dict"])
    assert Innocent.load_from_checkpoint(tmp_path / "run.ckpt").model.fc.weight.shape == (5, 16)


def test_gradients_accumulate_over_batches() -> None:
    results = []
    for own in (False, True):
        student, peers = make_student(), make_peers(1)
        before = copy.deepcopy(peers[0])
        wrapped: list[nn.Module] = [OwnOptimizer(peers[0], "epoch") if own else peers[0]]
        fit(
            student,
            wrapped,
            DML(peer_lr=PEER_LR, peer_weight_decay=PEER_DECAY),
            max_steps=2,
            accumulate_grad_batches=3,
        )
        assert difference(before, peers[0]) > 0
        results.append((student, peers[0]))
    assert difference(results[0][0], results[1][0]) == 0.0
    assert difference(results[0][1], results[1][1]) == 0.0


class Ahead(nn.Module):
    """A teacher that knows the labels of the batch, and is sometimes too far ahead for the student."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ResNetLike(5)
        self.labels: dict[int, Tensor] = {}
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        batches = list(loader())
        labels = batches[self.calls % len(batches)][1]
        self.calls += 1
        ahead = 9.0 * F.one_hot(labels, 5) + 8.6 * F.one_hot((labels + 1) % 5, 5)
        # even steps: far ahead, so it pauses; odd steps: on the wrong side, so it learns
        return 0.01 * self.network(x) + (ahead if self.calls % 2 else -ahead)


class Watch(L.Callback):
    """Notes after every step whether the peer's parameters have moved."""

    def __init__(self, peer: nn.Module) -> None:
        self.peer = peer
        self.before: list[Tensor] = []
        self.moved: list[bool] = []
        self.gradients: list[bool] = []

    def on_before_optimizer_step(self, *args: Any) -> None:
        self.gradients.append(any(parameter.grad is not None for parameter in self.peer.parameters()))

    def on_train_batch_start(self, *args: Any) -> None:
        self.before = [parameter.detach().clone() for parameter in self.peer.parameters()]

    def on_train_batch_end(self, *args: Any) -> None:
        after = list(self.peer.parameters())
        self.moved.append(any(not torch.equal(a, b) for a, b in zip(self.before, after, strict=True)))


@pytest.mark.parametrize("own", [False, True])
def test_a_paused_teacher_does_not_move(own: bool) -> None:
    # momentum and weight decay would move parameters whose gradient is zero rather than None
    student, teacher = make_student(), Ahead()
    watch = Watch(teacher)
    fit(student, [OwnOptimizer(teacher) if own else teacher], SwitOKD(), max_steps=6, callbacks=[watch])
    assert watch.moved == [False, True, False, True, False, True]
    if not own:
        assert watch.gradients == watch.moved


def test_frozen_bdkd_leaves_its_teacher_alone() -> None:
    student, teacher = make_student(), make_teacher()
    before = copy.deepcopy(teacher)
    run = fit(student, [teacher], BDKD(teacher_mode="frozen"))
    assert difference(before, teacher) == 0.0
    assert len(run.optimizers[0].param_groups) == 1


class ByHandSteps(Innocent):
    """Manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self.model(x), y))
        optimizer.step()


def test_own_optimizer_under_manual_optimization() -> None:
    """Nothing but the engine clears the gradients of such a peer; left-over ones would add up."""
    results = []
    for kind in (ByHandSteps, Innocent):
        torch.manual_seed(0)
        student, peers = kind(), make_peers(1)
        if kind is Innocent:
            student.training_step = lambda batch, batch_idx, s=student: F.cross_entropy(s.model(batch[0]), batch[1])
        fit(student, [OwnOptimizer(peers[0])], DML())
        results.append((student.model, peers[0]))
    for left, right in zip(*results, strict=True):
        assert difference(left, right) == 0.0
