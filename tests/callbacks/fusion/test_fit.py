"""Fusion ratios in a fit, through both doors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from support import CLASSES, Innocent, ResNetLike, difference, loader, make_student, make_teacher, trainer
from torch import Tensor

from lightning_kd import Classification, Distillation, DistillationModule
from lightning_kd.callbacks.fusion import (
    FusionRatio,
    FusionStrategy,
    LinearAnneal,
    RandomWeights,
    TeacherConfidence,
    TrilateralGeometry,
    WeightedSoftLabel,
)
from lightning_kd.functional import kd_loss
from lightning_kd.methods import KD, FitNet

DOORS = pytest.mark.parametrize("door", [1, 2])
RATIOS = {"kd/alpha/mean", "kd/alpha/std", "kd/alpha/q05", "kd/alpha/q50", "kd/alpha/q95"}


class Seeded(L.Callback):
    """The same random numbers in step ``n``, whatever happened before."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(1000 * trainer.current_epoch + batch_idx)


def fit(
    door: int, strategy: FusionStrategy | float, method: Any = None, student: Any = None, **kwargs: Any
) -> tuple[Innocent, FusionRatio, L.Trainer]:
    student = student or make_student()
    method = method or KD(temperature=3.0, weight=0.8)
    ratio = FusionRatio(strategy)
    path = kwargs.pop("ckpt_path", None)
    more = kwargs.pop("callbacks", [])
    if door == 1:
        module: Any = DistillationModule(student, make_teacher(), method, task_weight=0.3)
        run = trainer(callbacks=[ratio, Seeded(), *more], **kwargs)
    else:
        module = student
        distillation = Distillation(make_teacher(), method, task_weight=0.3)
        run = trainer(callbacks=[ratio, distillation, Seeded(), *more], **kwargs)
    run.fit(module, loader(), ckpt_path=path)
    return student, ratio, run


@DOORS
def test_equals_a_hand_written_loop(door: int) -> None:
    student, _, run = fit(door, 0.4)
    by_hand, teacher = make_student(), make_teacher().eval()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1], gamma=0.1)
    for epoch in range(2):
        for index, (x, y) in enumerate(loader()):
            torch.manual_seed(1000 * epoch + index)
            logits = by_hand.model(noisy := x + 0.1 * torch.randn_like(x))
            with torch.no_grad():
                teacher_logits = teacher(noisy)
            losses = [
                0.4 * 0.8 * kd_loss(logits[i : i + 1], teacher_logits[i : i + 1], 3.0)
                + 0.6 * F.cross_entropy(logits[i : i + 1], y[i : i + 1])
                for i in range(len(y))
            ]
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
        scheduler.step()
    assert difference(student.model, by_hand.model) < 1e-5
    assert run.callback_metrics["kd/alpha/mean"].item() == pytest.approx(0.4)
    assert run.callback_metrics["kd/alpha/q50"].item() == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize(
    "strategy",
    [
        LinearAnneal(),
        WeightedSoftLabel(),
        TeacherConfidence(),
        RandomWeights(),
        TrilateralGeometry(warmup_epochs=0),
        TrilateralGeometry(warmup_epochs=0, unroll="jvp", features="vertices+edges+angles", compact=True, every=3),
        TrilateralGeometry(warmup_epochs=0, unroll="full", features="edges", every=3),
    ],
)
def test_both_doors_log_and_agree(strategy: FusionStrategy) -> None:
    students = []
    for door in (1, 2):
        student, _, run = fit(door, copy.deepcopy(strategy))
        assert set(run.callback_metrics) >= RATIOS | {"kd/task", "kd/KD", "train/loss"}
        students.append(student)
    assert difference(*students) == 0.0


def test_several_teachers_count_alike() -> None:
    """Twice the same teacher is that teacher; a second, different one matters."""
    students = []
    for second in (make_teacher(), make_teacher(8)):
        student = make_student()
        strategy = TrilateralGeometry(warmup_epochs=0)
        distillation = Distillation([make_teacher(), second], KD(3.0, 0.8))
        trainer(callbacks=[distillation, FusionRatio(strategy), Seeded()]).fit(student, loader())
        students.append(student)
    alone, _, _ = fit(2, TrilateralGeometry(warmup_epochs=0))
    assert difference(students[0], alone) < 1e-4
    assert difference(students[1], alone) > 1e-3


def test_a_plain_network() -> None:
    torch.manual_seed(0)
    student = ResNetLike(4)
    task = Classification(CLASSES)
    module = DistillationModule(student, make_teacher(), KD(), task=task)
    ratio = FusionRatio(TrilateralGeometry(warmup_epochs=0))
    run = trainer(callbacks=[ratio])
    run.fit(module, loader())
    assert set(run.callback_metrics) >= RATIOS


def test_methods_without_per_sample_losses_are_added() -> None:
    plain, _, _ = fit(2, 0.4)
    with_hint, _, run = fit(2, 0.4, [KD(3.0, 0.8), FitNet(layers={"layer2": "layer2"})])
    assert "kd/FitNet" in run.callback_metrics
    assert difference(plain.model, with_hint.model) > 1e-3


@DOORS
@pytest.mark.parametrize(
    "make", [lambda: RandomWeights(7), lambda: TrilateralGeometry(warmup_epochs=0, weight_decay=0.0, every=2)]
)
def test_resume_is_exact(door: int, make: Any, tmp_path: Path) -> None:
    def keep() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)

    whole, ratio, _ = fit(door, make(), max_epochs=3, callbacks=[keep()], enable_checkpointing=True)
    # loads without pickle
    torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    torch.manual_seed(5)
    resumed, again, _ = fit(door, make(), max_epochs=3, ckpt_path=str(tmp_path / "epoch=0.ckpt"))
    assert difference(whole, resumed) == 0.0
    first, second = ratio.state_dict(), again.state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    if isinstance(ratio.strategy, TrilateralGeometry):
        assert first["updates"] == 14  # every second of 9 batches, counted across epochs: 5 + 4 + 5


def test_a_second_fit_starts_afresh() -> None:
    strategy = RandomWeights()
    first, ratio, _ = fit(2, strategy)
    second, _, _ = fit(2, strategy)
    assert difference(first, second) == 0.0
    assert ratio.state_dict() == {"draws": 20}


@DOORS
def test_the_engine_is_given_back(door: int) -> None:
    student, ratio, run = fit(door, 0.4)
    engines = [callback.engine for callback in run.callbacks if isinstance(callback, Distillation)]
    assert [engine.fusion for engine in engines] == [None]

    class Broken(Innocent):
        def on_train_epoch_end(self) -> None:
            raise ZeroDivisionError

    distillation = Distillation(make_teacher(), KD())
    strategy = TrilateralGeometry(warmup_epochs=0)
    train = loader()
    run = trainer(callbacks=[distillation, FusionRatio(strategy)])
    with pytest.raises(ZeroDivisionError):
        run.fit(Broken(), train)
    assert distillation.engine.fusion is None
    assert run.fit_loop._data_source.dataloader() is train
    assert student is not None
    assert ratio.state_key == "FusionRatio[Fixed]"


def test_refusals() -> None:
    def run(*callbacks: L.Callback) -> None:
        trainer(callbacks=list(callbacks)).fit(make_student(), loader())

    teacher = make_teacher()
    with pytest.raises(RuntimeError, match="the Trainer has none: put Distillation"):
        run(FusionRatio(0.5))
    with pytest.raises(RuntimeError, match="two FusionRatio"):
        run(Distillation(teacher, KD()), FusionRatio(0.5), FusionRatio(RandomWeights()))
    with pytest.raises(ValueError, match="per-sample losses"):
        run(Distillation(teacher, FitNet(layers={"layer2": "layer2"})), FusionRatio(0.5))


def test_bf16_autocast() -> None:
    seen: list[Tensor] = []

    class Watched(TrilateralGeometry):
        def alpha(self, step: Any) -> Tensor:
            assert step.exchange.student.logits.dtype is torch.bfloat16
            seen.append(super().alpha(step))
            return seen[-1]

    _, ratio, _ = fit(2, Watched(warmup_epochs=0), precision="bf16-mixed")
    assert ratio.state_dict()["updates"] == len(seen) > 0
    assert all(alpha.dtype is torch.float32 and alpha.isfinite().all() for alpha in seen)
