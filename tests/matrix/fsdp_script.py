"""Run by ``torch.distributed.run``: FSDP2 with a sharded student, and what each rank ends with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from support import Late, loader, make_teacher, trainer
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods import KD, FitNet


class Sharded(Late):
    def configure_model(self) -> None:
        if self.model is None:
            super().configure_model()
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Dump(L.Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        state = {k: _whole(v) for k, v in pl_module._kd.methods[1].named_parameters()}
        student = getattr(pl_module, "student", pl_module)
        state |= {f"student.{k}": _whole(v) for k, v in student.model.named_parameters()}
        torch.save(state, self.folder / f"rank{trainer.global_rank}.pt")


def _whole(value: torch.Tensor) -> torch.Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()


def main(door: int, folder: Path) -> None:
    torch.set_num_threads(1)
    student, methods = Sharded(), [KD(), FitNet(layers={"layer2": "layer2"}, weight=2.0)]
    module: Any = DistillationModule(student, make_teacher(), methods) if door == 1 else student
    callbacks: list[L.Callback] = [Dump(folder)]
    if door == 2:
        callbacks.insert(0, Distillation(make_teacher(), methods))
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    trainer(callbacks=callbacks, devices=2, strategy=strategy, max_epochs=1).fit(module, loader())


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    # a thread of the process group may abort the process while the interpreter is taken down
    torch.distributed.destroy_process_group()
    os._exit(0)
