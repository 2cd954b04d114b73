"""The same through the plugin: a LightningModule, and either door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import lightning as L
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods import DIST, KD, RKD, AttentionTransfer, DistillationMethod, FitNet
from peers.pair import HINT, STAGES, Terms, optimizer


class Student(L.LightningModule):
    """A classifier that knows nothing of distillation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> Any:
        """SGD."""
        return optimizer(self)


class _Steps(L.Callback):
    def __init__(self, on_step: Callable[[], None]) -> None:
        self._on_step = on_step

    def on_train_batch_end(self, *args: Any) -> None:
        self._on_step()


def train(
    student: nn.Module,
    teacher: nn.Module,
    terms: Terms,
    batches: DataLoader[Any],
    on_step: Callable[[], None],
    *,
    door: Literal[1, 2],
    callbacks: list[L.Callback] | None = None,
    epochs: int = 1,
) -> None:
    """Train through a door; see :func:`peers.by_hand.train`.

    Args:
        student: trained.
        teacher: frozen.
        terms: what the loss is made of.
        batches: images and labels.
        on_step: called after every step.
        door: 1 wraps, 2 is a callback.
        callbacks: further ones, such as a teacher cache.
        epochs: passes over the batches.
    """
    module: L.LightningModule = Student(student)
    methods = [_method(name, weight) for name, weight in terms.terms.items()]
    others = [*(callbacks or []), _Steps(on_step)]
    if door == 1:
        module = DistillationModule(module, teacher, method=methods, task_weight=terms.task)
    else:
        others = [Distillation(teacher, method=methods, task_weight=terms.task), *others]
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=others,
    )  # fmt: skip
    trainer.fit(module, batches)


def _method(name: str, weight: float) -> DistillationMethod:
    stages = {stage: stage for stage in STAGES}
    made: dict[str, Callable[[], DistillationMethod]] = {
        "kd": lambda: KD(temperature=4.0, weight=weight),
        "at": lambda: AttentionTransfer(layers=stages, weight=weight),
        "fitnet": lambda: FitNet(layers={HINT: HINT}, weight=weight),
        "rkd": lambda: RKD(layers={"fc.0": "fc.0"}, distance_weight=25.0, angle_weight=50.0, weight=weight),
        "dist": lambda: DIST(weight=weight),
    }
    return made[name]()
