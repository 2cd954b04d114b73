"""Peers under DDP with two processes: their gradients are averaged, and a switch is thrown on all ranks at once."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy
from support import trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from lightning_kd import Distillation
from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.methods.online import BDKD, DML, KDCL, SwitOKD, expert_mode, gap_statistics

CLASSES = 4


def labels_of(x: Tensor) -> Tensor:
    return x[:, :CLASSES].argmax(-1)


class InTurns(Sampler[int]):
    """Deals the samples out to the ranks in turns, without shuffling."""

    def __iter__(self) -> Any:
        distributed = dist.is_initialized()
        yield from range(dist.get_rank(), 32, dist.get_world_size()) if distributed else range(32)

    def __len__(self) -> int:
        return 32 // (dist.get_world_size() if dist.is_initialized() else 1)


def batches() -> DataLoader[Any]:
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, labels_of(x)), batch_size=4, sampler=InTurns())


class Student(L.LightningModule):
    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(8, CLASSES)
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=0.01)


class Peer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Own(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = Peer()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


class Ahead(Peer):
    """In turns far ahead of the student, so that it pauses, and on the wrong side, so that it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        labels = labels_of(x)
        ahead = 9.0 * F.one_hot(labels, CLASSES) + 8.6 * F.one_hot((labels + 1) % CLASSES, CLASSES)
        self.calls += 1
        return 0.01 * super().forward(x) + (ahead if self.calls % 2 else -ahead)


class Report(L.Callback):
    """Every rank writes what it ended with, and at which steps the peer moved."""

    def __init__(self, folder: Path, peer: nn.Module) -> None:
        self.folder, self.peer = folder, peer
        self.moved: list[bool] = []
        self.before: list[Tensor] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.before = [parameter.detach().clone() for parameter in self.peer.parameters()]

    def on_train_batch_end(self, *args: Any) -> None:
        after = list(self.peer.parameters())
        self.moved.append(any(not torch.equal(a, b) for a, b in zip(self.before, after, strict=True)))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        content = {"student": pl_module.state_dict(), "peer": self.peer.state_dict(), "moved": self.moved}
        torch.save(content, self.folder / f"{trainer.global_rank}.pt")


def fit(folder: Path, method: Any, peer: nn.Module, lr: float = 0.05) -> list[dict[str, Any]]:
    strategy = DDPStrategy(
        start_method="fork", process_group_backend="gloo", find_unused_parameters=isinstance(method, SwitOKD)
    )
    callbacks = [Distillation([peer], method), Report(folder, peer)]
    trainer(max_epochs=1, devices=2, callbacks=callbacks, strategy=strategy, use_distributed_sampler=False).fit(
        Student(lr), batches()
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["joins", "own"])
@pytest.mark.parametrize("factory", [DML, KDCL, BDKD])
def test_ranks_end_with_equal_peers(tmp_path: Path, factory, kind: str) -> None:
    make = Peer if kind == "joins" else Own
    first, second = fit(tmp_path, factory(), make())
    for part in ("student", "peer"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    assert any(not torch.equal(first["peer"][name], value) for name, value in make().state_dict().items())


@pytest.mark.slow
def test_two_ranks_train_like_one_process(tmp_path: Path) -> None:
    """Two ranks with four samples each make the step of one process with eight: the gradients are averaged."""
    first, _ = fit(tmp_path, DML(peer_lr=0.02), Peer())
    student, peer = Student(), Peer()
    networks, rates = [student.model, peer], [0.05, 0.02]
    optimizers = [
        torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=0.01)
        for net, lr in zip(networks, rates, strict=True)
    ]
    samples = batches().dataset[:]
    for step in range(4):
        rows = slice(8 * step, 8 * step + 8)
        x, y = samples[0][rows], samples[1][rows]
        outputs = [net(x) for net in networks]
        losses = Exchange((), y, View(outputs[0]), [View(outputs[1])])
        for optimizer in optimizers:
            optimizer.zero_grad()
        (DML()(losses) + F.cross_entropy(outputs[0], y)).backward()
        for optimizer in optimizers:
            optimizer.step()
    for name, value in student.state_dict().items():
        torch.testing.assert_close(first["student"][name], value, rtol=1e-5, atol=1e-6)
    for name, value in peer.state_dict().items():
        torch.testing.assert_close(first["peer"][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_switch_is_thrown_on_all_ranks(tmp_path: Path) -> None:
    # a student that hardly learns stays far behind
    first, second = fit(tmp_path, SwitOKD(peer_lr=0.02), Ahead(), lr=1e-4)
    assert first["moved"] == second["moved"] == [False, True, False, True]
    assert all(torch.equal(first["peer"][name], second["peer"][name]) for name in first["peer"])


def decide(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        results[rank] = pauses(*side(rank))
    finally:
        dist.destroy_process_group()


def side(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rank 0 alone would pause the teacher, rank 1 alone would not; rank 0 has more samples."""
    target = torch.arange(6) % CLASSES if rank == 0 else torch.arange(2) % CLASSES
    ahead = 9.0 * F.one_hot(target, CLASSES) + 8.6 * F.one_hot((target + 1) % CLASSES, CLASSES)
    return torch.zeros(len(target), CLASSES), ahead if rank == 0 else torch.zeros_like(ahead), target


def pauses(student: Tensor, teacher: Tensor, target: Tensor) -> bool:
    """Whether a teacher of these logits gets no gradient."""
    student, teacher = student.requires_grad_(), teacher.requires_grad_()
    loss = SwitOKD()(Exchange((), target, View(student), [View(teacher)]))
    return torch.autograd.grad(loss, teacher, allow_unused=True)[0] is None


def test_the_decision_is_made_from_all_samples() -> None:
    alone = [bool(expert_mode(gap_statistics(*side(rank)))) for rank in range(2)]
    assert alone == [True, False]
    together = bool(expert_mode(sum(gap_statistics(*side(rank)) for rank in range(2))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(decide, (port, results), nprocs=2, start_method="fork")
        assert [results[0], results[1]] == [together, together]
