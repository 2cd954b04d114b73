"""The same distillation written into the LightningModule by hand: what every situation is compared with."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from support import Innocent, loader, make_teacher, trainer
from torch import Tensor, nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.functional import kd_loss
from lightning_kd.methods import KD, FitNet

Student = Callable[[], Any]
DOORS = pytest.mark.parametrize("door", [1, 2])


def methods() -> list[Any]:
    return [KD(weight=0.9), FitNet(layers={"layer2": "layer2"}, weight=2.0)]


def distil(module: Any, calls: list[Tensor], logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms, as one would write them inline."""
    teacher = module.teacher[0].to(dtype=next(module.model.parameters()).dtype)
    features: dict[str, Tensor] = {}
    handle = teacher.layer2.register_forward_hook(lambda m, i, o: features.__setitem__("teacher", o))
    with torch.no_grad():
        teacher_logits = teacher(x)
    handle.remove()
    target = features["teacher"]
    prediction = module.connector(calls[-1], target.shape[2:])
    if target.dtype == torch.bfloat16:
        prediction, target = prediction.float(), target.float()
    hint = F.mse_loss(prediction, target.to(prediction.dtype))
    return 0.9 * kd_loss(logits, teacher_logits, 4.0), 2.0 * hint


def write_in(student: Any, connector: nn.Module) -> Any:
    """Give ``student`` a hand-written ``training_step`` with the same distillation in it."""
    student.connector = connector
    student.teacher = [make_teacher().eval().requires_grad_(False)]
    seen: list[Tensor] = []
    network = getattr(student.model, "_orig_mod", student.model) if student.model is not None else None
    if network is not None:
        network.layer2.register_forward_hook(lambda m, i, o: seen.append(o))
    student.seen = seen
    return student


class Start(L.Callback):
    """Seeds every step and keeps the connector's initial weights; at the end writes what each rank has."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.connector: nn.Module | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if hasattr(pl_module, "_kd"):
            self.connector = copy.deepcopy(pl_module._kd.methods[1].regressors[0])
            if self.folder is not None and trainer.is_global_zero:
                torch.save(self.connector, self.folder / "connector.pt")

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(1000 * trainer.current_epoch + batch_idx)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.folder is not None:
            connector = pl_module._kd.methods[1].regressors[0] if hasattr(pl_module, "_kd") else pl_module.connector
            student = getattr(pl_module, "student", pl_module)
            state = {
                "student": {k: v for k, v in student.state_dict().items() if not k.startswith("connector")},
                "connector": connector.state_dict(),
            }
            torch.save(state, self.folder / f"rank{trainer.global_rank}.pt")


def through_door(door: int, student: Any, folder: Path | None = None, callbacks: Any = (), **kwargs: Any) -> Any:
    start = Start(folder)
    settings = {"task_weight": 0.1}
    data = kwargs.pop("data", None)
    if door == 1:
        module: Any = DistillationModule(student, make_teacher(), methods(), **settings)
        distillation, used = module.distillation, [start, *callbacks]
    else:
        module, distillation = student, Distillation(make_teacher(), methods(), **settings)
        used = [distillation, start, *callbacks]
    run = trainer(callbacks=used, **kwargs)
    run.fit(module, loader() if data is None else data)
    final = distillation.engine.methods[1].regressors
    return start.connector, final[0] if len(final) else None, run


class ByHand(Innocent):
    """``Innocent`` with the distillation written into its training step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.clear()
        x, y = batch
        x = x + 0.1 * torch.randn_like(x)
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        kd, hint = distil(self, self.seen, logits, x)
        return 0.1 * loss + kd + hint


def fit_by_hand(student: Any, connector: nn.Module, folder: Path | None = None, **kwargs: Any) -> Any:
    data = kwargs.pop("data", None)
    write_in(student, copy.deepcopy(connector))
    trainer(callbacks=[Start(folder)], **kwargs).fit(student, loader() if data is None else data)
    return student


def ranks(folder: Path) -> list[dict[str, Any]]:
    files = sorted(file for file in os.listdir(folder) if file.startswith("rank"))
    return [torch.load(folder / file, weights_only=True) for file in files]


def gap(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[k].double() - right[k].double()).abs().max()) for k in left if left[k].numel())


def seeded(make: Any, *args: Any) -> Any:
    torch.manual_seed(0)
    return make(*args)


def compare(door: int, student: Any = Innocent, hand: Any = ByHand, prepare: Any = lambda s: s, **kwargs: Any) -> float:
    """Largest difference between student and connector trained through a door and by hand."""
    distilled = prepare(seeded(student))
    initial, final, _ = through_door(door, distilled, **kwargs)
    expected = prepare(seeded(hand))
    before = copy.deepcopy(_clean(expected.model.state_dict()))
    fit_by_hand(expected, initial, **kwargs)
    assert gap(before, _clean(expected.model.state_dict())) > 1e-6
    return max(
        gap(_clean(distilled.model.state_dict()), _clean(expected.model.state_dict())),
        gap(final.state_dict(), expected.connector.state_dict()),
    )


def _clean(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("_orig_mod.", ""): value for key, value in state.items()}
