"""PS-KD against a loop written by hand, resumed, and on two ranks."""

from __future__ import annotations

import copy
import socket
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from support import CLASSES, Innocent, ResNetLike, difference, loader, make_student, make_teacher, trainer
from torch import Tensor, nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.engine.exchange import Exchange, Progress, View
from lightning_kd.methods.features import FitNet
from lightning_kd.methods.logits.kd import KD
from lightning_kd.methods.self_distillation import PSKD
from lightning_kd.methods.self_distillation.snapshot import PastStudent

EPOCHS, ALPHA = 3, 0.6


class Seeded(L.Callback):
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(trainer.global_step)


class Stateful:
    """A loader that a checkpoint finds again in the middle of an epoch; PyTorch's own starts over."""

    def __init__(self) -> None:
        self.batches = list(loader())
        self.given = 0

    def __iter__(self) -> Any:
        self.given %= len(self.batches)
        while self.given < len(self.batches):
            self.given += 1
            yield self.batches[self.given - 1]

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.given = state["given"]


class Whole(L.LightningModule):
    """A LightningModule that is its own network: it carries the engine's patches and the methods."""

    def __init__(self) -> None:
        super().__init__()
        inner = ResNetLike(4)
        self.body = nn.Sequential(inner.stem, nn.ReLU(), inner.layer1, inner.layer2, inner.layer3)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), inner.fc)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x + 0.1 * torch.randn_like(x)), y)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [1], gamma=0.1)]


def make_whole() -> Whole:
    torch.manual_seed(0)
    return Whole()


def fit(student: L.LightningModule, door: int, method: Any = None, epochs: int = EPOCHS, **kwargs: Any) -> L.Trainer:
    method = method or PSKD(ALPHA)
    callbacks: list[L.Callback] = [Seeded(), *kwargs.pop("callbacks", [])]
    module = student
    resume, batches = kwargs.pop("resume", None), kwargs.pop("batches", None) or loader()
    if door == 1:
        module = DistillationModule(student, method=method, task_weight=0.0)
    else:
        callbacks.insert(0, Distillation(method=method, task_weight=0.0))
    run = trainer(max_epochs=epochs, callbacks=callbacks, **kwargs)
    run.fit(module, batches, ckpt_path=resume, weights_only=False if resume else None)
    return run


def by_hand(student: L.LightningModule, network: nn.Module) -> None:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1], gamma=0.1)
    past, step = None, 0
    for epoch in range(EPOCHS):
        share = ALPHA * (epoch + 1) / EPOCHS
        for x, y in loader():
            torch.manual_seed(step)
            step += 1
            x = x + 0.1 * torch.randn_like(x)
            logits = network(x)
            if past is None:
                loss = F.cross_entropy(logits, y)
            else:
                with torch.no_grad():
                    soft = past(x).softmax(-1)
                loss = (1 - share) * F.cross_entropy(logits, y) + share * F.cross_entropy(logits, soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        past = copy.deepcopy(network).eval()


@pytest.mark.parametrize("door", [1, 2])
@pytest.mark.parametrize("make", [make_student, make_whole])
def test_against_a_hand_written_loop(make: Any, door: int) -> None:
    student, reference = make(), make()
    fit(student, door)
    by_hand(reference, reference.model if isinstance(reference, Innocent) else reference)
    assert difference(student, reference) < 1e-6
    assert all(not key.startswith("_kd") for key in student.state_dict())


@pytest.mark.parametrize("door", [1, 2])
@pytest.mark.parametrize("make", [make_student, make_whole])
def test_resumes_exactly(tmp_path: Path, make: Any, door: int) -> None:
    def checkpoints() -> dict[str, Any]:
        return {"callbacks": [ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=5)]}

    whole, resumed = make(), make()
    fit(whole, door, batches=Stateful())
    fit(make(), door, batches=Stateful(), enable_checkpointing=True, **checkpoints())
    # in the middle of the second epoch and at its end (ten steps an epoch)
    for step in (15, 20):
        resumed = make()
        fit(resumed, door, batches=Stateful(), resume=str(tmp_path / f"step={step}.ckpt"))
        assert difference(whole, resumed) == 0.0


def test_taps_and_hooks_do_not_fire_for_the_past() -> None:
    """Another method taps the student's layers; the past must neither fire these taps nor be trained."""
    student, teacher = make_student(), make_teacher()
    method = PSKD(ALPHA)
    distillation = Distillation(teacher, [FitNet(layers={"layer2": "layer2"}), method, KD()], task_weight=0.0)
    calls: list[bool] = []
    run = trainer(max_epochs=2, callbacks=[distillation])
    handle = student.model.layer2.register_forward_hook(lambda module, args, output: calls.append(module.training))
    run.fit(student, loader())
    handle.remove()
    assert method._past is not None
    assert not method._past._network.training
    assert all(not module._forward_hooks for name, module in method._past._network.named_modules() if name != "layer2")
    assert not list(method.parameters())


def test_the_share_grows() -> None:
    method = PSKD(0.8)
    assert [method.share(Progress(epoch=epoch, max_epochs=4)) for epoch in range(5)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8]
    )
    assert method.share(Progress(epoch=1, fraction=0.5)) == pytest.approx(0.4)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 1.5"):
        PSKD(1.5)


def test_unbuilt_use_is_refused() -> None:
    view = View(torch.zeros(2, CLASSES))
    with pytest.raises(RuntimeError, match="before it was built"):
        PSKD()(Exchange((), torch.tensor([0, 1]), view, []))


def test_a_renamed_network_is_refused() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    past = PastStudent(network)
    network.append(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="not those it had before training"):
        past.take()
    with pytest.raises(RuntimeError, match="no past weights"):
        past((torch.zeros(1, 2),), {})


def keep(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        past = PastStudent(network)
        torch.manual_seed(rank)
        network(torch.randn(8, 3))
        past.remember_buffers()
        past.take()
        results[rank] = past.weights
    finally:
        dist.destroy_process_group()


def test_ranks_keep_the_same_past() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(keep, (port, results), nprocs=2, start_method="fork")
        first, second = results[0], results[1]
    assert first["1.running_mean"].any()
    assert all(torch.equal(first[name], second[name]) for name in first)
