"""Run by ``torch.distributed.run``: every row of digits-v1 for an epoch; whether the ranks end in the same student."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.protocol import Protocol, TrainerSpec, load_protocol
from kd_bench.students import train_student
from kd_bench.teachers import load_teacher
from kd_bench.training.machine import check_machine
from kd_bench.training.ranks import leave
from torch import nn


def main(strategy: str, output: Path) -> None:
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    protocol = _protocol(strategy)
    teacher = load_teacher(protocol, "mini_resnet14", output / "teachers").network
    outcomes = {
        name: _train(Item(protocol, "resnet14-cnn4", name, 0, output), teacher, rank) for name in protocol.methods
    }
    if rank == 0:
        (output / "outcomes.json").write_text(json.dumps(outcomes))


def _protocol(strategy: str) -> Protocol:
    full = load_protocol("digits-v1")
    # at the protocol's own rate, some methods diverge in so short a training
    gentle = full.student_recipe.optimizer.model_copy(update={"lr": 0.02})
    return full.model_copy(
        update={
            "id": "digits-rows",
            "teacher_recipe": full.teacher_recipe.model_copy(update={"epochs": 1}),
            "student_recipe": full.student_recipe.model_copy(update={"epochs": 1, "optimizer": gentle}),
            "trainer": TrainerSpec(devices=2, strategy=strategy),
        }
    )


def _train(item: Item, teacher: nn.Module, rank: int) -> str:
    try:
        check_machine(item.protocol.trainer, "cpu", item.recipe.batch_size, item.row)
        network = train_student(item, teacher, rank=rank).network
    except UserError:
        return "refused"
    state = torch.cat([value.double().flatten() for value in network.state_dict().values()])
    states = [torch.zeros_like(state) for _ in range(2)]
    dist.all_gather(states, state)
    return "equal" if torch.equal(*states) else "different"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    leave()
