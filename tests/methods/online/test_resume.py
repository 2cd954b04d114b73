"""Peers are part of a checkpoint: a run that was cut ends in the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from support import ResNetLike, difference, loader, make_student, trainer
from torch import nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods.online import DML, SwitOKD


class Seeded(L.Callback):
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(trainer.global_step)


class OwnOptimizer(L.LightningModule):
    def __init__(self, interval: str) -> None:
        super().__init__()
        self.model = ResNetLike(6)
        self.interval = interval

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return [optimizer], [{"scheduler": scheduler, "interval": self.interval}]


def make_peer(kind: str) -> nn.Module:
    torch.manual_seed(5)
    return ResNetLike(6) if kind == "joins" else OwnOptimizer(kind)


def run(
    tmp_path: Path, kind: str, door: int, epochs: int, resume: str | None = None, validate: bool = False
) -> tuple[nn.Module, nn.Module]:
    student, peer = make_student(), make_peer(kind)
    method = (DML if door == 2 else SwitOKD)(peer_lr=0.05)
    callbacks: list[L.Callback] = [Seeded(), ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")]
    module: L.LightningModule = student
    if door == 1:
        module = DistillationModule(student, [peer], method)
    else:
        callbacks.insert(0, Distillation([peer], method))
    trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=True).fit(
        module, loader(), loader(8) if validate else None, ckpt_path=resume, weights_only=False
    )
    return student, peer


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("door", [1, 2])
@pytest.mark.parametrize("kind", ["joins", "step", "epoch"])
def test_resumes_exactly(tmp_path: Path, kind: str, door: int, validate: bool) -> None:
    whole = run(tmp_path / "whole", kind, door, 3, validate=validate)
    run(tmp_path / "cut", kind, door, 2, validate=validate)
    resumed = run(tmp_path / "cut", kind, door, 3, str(tmp_path / "cut" / "epoch=1.ckpt"), validate=validate)
    for left, right in zip(whole, resumed, strict=True):
        assert difference(left, right) == 0.0
    assert difference(whole[1], make_peer(kind)) > 1e-3


def test_a_second_fit_goes_on_with_the_peer(tmp_path: Path) -> None:
    """What a checkpoint brought into the first fit must not come back in the second."""
    run(tmp_path, "joins", 2, 1)
    student, peer = make_student(), make_peer("joins")
    distillation = Distillation([peer], DML())
    settings = {"max_epochs": 2, "callbacks": [distillation]}
    trainer(**settings).fit(student, loader(), ckpt_path=str(tmp_path / "epoch=0.ckpt"), weights_only=False)
    trained = {name: value.clone() for name, value in peer.state_dict().items()}
    trainer(**{**settings, "max_epochs": 0}).fit(student, loader())
    assert all(torch.equal(value, trained[name]) for name, value in peer.state_dict().items())
