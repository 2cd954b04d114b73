"""Every way Lightning runs a LightningModule in one process, through both doors, against the hand-written module."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from by_hand import DOORS, ByHand, compare, distil, fit_by_hand, seeded, through_door
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from support import Innocent, difference, loader, make_student, make_teacher, trainer
from torch import Tensor, nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods import KD, FitNet


@pytest.mark.situation("precision {precision}")
@DOORS
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precision(door: int, precision: str) -> None:
    data = loader()
    if precision == "64-true":
        data.dataset.tensors = (data.dataset.tensors[0].double(), data.dataset.tensors[1])
    elif precision == "bf16-true":
        data.dataset.tensors = (data.dataset.tensors[0].bfloat16(), data.dataset.tensors[1])
    assert compare(door, precision=precision, data=data) == 0.0


@pytest.mark.situation("gradient accumulation")
@DOORS
def test_accumulation(door: int) -> None:
    assert compare(door, accumulate_grad_batches=3) == 0.0


@pytest.mark.situation("gradient clipping by {by}")
@DOORS
@pytest.mark.parametrize("by", ["norm", "value"])
def test_clipping(door: int, by: str) -> None:
    assert compare(door, gradient_clip_val=0.05, gradient_clip_algorithm=by) == 0.0


class DictReturn(Innocent):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return {"loss": loss, "note": batch_idx}


@pytest.mark.situation("training_step returns a dictionary")
@DOORS
def test_dictionary_return(door: int) -> None:
    class Sees(L.Callback):
        notes: list[int] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.notes.append(outputs["note"])

    distilled, sees = seeded(DictReturn), Sees()
    initial, _, _ = through_door(door, distilled, callbacks=[sees])
    assert difference(distilled.model, fit_by_hand(seeded(ByHand), initial).model) == 0.0
    assert sees.notes[:3] == [0, 1, 2]


class Skips(Innocent):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 2 else loss


class SkipsByHand(ByHand):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx % 2:
            self.model(batch[0] + 0.1 * torch.randn_like(batch[0]))
            return None
        return super().training_step(batch, batch_idx)


@pytest.mark.situation("training_step returns None")
@DOORS
def test_none_return(door: int) -> None:
    assert compare(door, Skips, SkipsByHand) == 0.0


class OneArgument(Innocent):
    def training_step(self, batch: Any) -> Any:
        return Innocent.training_step(self, batch, 0)


@pytest.mark.situation("training_step without batch_idx")
@DOORS
def test_step_without_index(door: int) -> None:
    assert compare(door, OneArgument) == 0.0


class TakesIterator(Innocent):
    def training_step(self, dataloader_iter: Any) -> Any:
        batch, index, _ = next(dataloader_iter)
        torch.manual_seed(index)
        x, y = batch
        logits = self.model(x + 0.1 * torch.randn_like(x))
        loss = F.cross_entropy(logits, y)
        self.log("train/loss", loss, batch_size=len(x))
        return loss


@pytest.mark.situation("training_step(dataloader_iter)")
@DOORS
def test_dataloader_iterator(door: int) -> None:
    student = seeded(TakesIterator)
    method = [KD(weight=0.9)]
    if door == 1:
        trainer(max_steps=6).fit(DistillationModule(student, make_teacher(), method, task_weight=0.1), loader())
    else:
        callback = Distillation(make_teacher(), method, task_weight=0.1)
        trainer(max_steps=6, callbacks=[callback]).fit(student, loader())

    class Reference(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            torch.manual_seed(batch_idx)
            x, y = batch
            x = x + 0.1 * torch.randn_like(x)
            logits = self.model(x)
            kd, _ = distil(self, self.seen, logits, x)
            return 0.1 * F.cross_entropy(logits, y) + kd

    expected = fit_by_hand(seeded(Reference), IgnoresSize(), max_steps=6)
    assert difference(student.model, expected.model) == 0.0


class IgnoresSize(nn.Module):
    def forward(self, x: Tensor, size: Any) -> Tensor:
        return x.new_zeros(x.shape[0], 12, *size)


class SeveralCalls(Innocent):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        with torch.no_grad():
            self.model(x * 2)
        return F.cross_entropy(self.model(x), y) + F.cross_entropy(self.model(x + 1), y)


class SeveralCallsByHand(ByHand):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        with torch.no_grad():
            self.model(x * 2)
        first = self.model(x)
        a, b = distil(self, self.seen, first, x)
        second = self.model(x + 1)
        c, d = distil(self, self.seen, second, x + 1)
        task = F.cross_entropy(first, y) + F.cross_entropy(second, y)
        return 0.1 * task + a + b + c + d


@pytest.mark.situation("several student calls a step")
@DOORS
def test_several_calls(door: int) -> None:
    assert compare(door, SeveralCalls, SeveralCallsByHand) == 0.0


class Closure(Innocent):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=3)


class ClosureByHand(ByHand):
    configure_optimizers = Closure.configure_optimizers


@pytest.mark.situation("optimizers with closures (LBFGS)")
@DOORS
def test_lbfgs(door: int) -> None:
    assert compare(door, Closure, ClosureByHand, max_epochs=1) == 0.0


class PerGroup(Innocent):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            [{"params": self.model.layer1.parameters(), "lr": 1e-3}, {"params": self._rest()}], lr=1e-2
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[1e-2, 2e-2], total_steps=20)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rest(self) -> list[Any]:
        first = {id(p) for p in self.model.layer1.parameters()}
        rest = [p for p in self.model.parameters() if id(p) not in first]
        return [*rest, *(self.connector.parameters() if hasattr(self, "connector") else [])]


class PerGroupByHand(PerGroup, ByHand):
    training_step = ByHand.training_step


@pytest.mark.situation("per-group OneCycleLR with AdamW")
@DOORS
def test_per_group_schedule(door: int) -> None:
    assert compare(door, PerGroup, PerGroupByHand) == 0.0


class SwapsNorms(L.Callback):
    """Does to the module tree what ``sync_batchnorm=True`` does, after the callbacks' setup."""

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        pl_module.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(pl_module.model)


@pytest.mark.situation("SyncBatchNorm conversion", result="works")
def test_taps_survive_sync_batchnorm() -> None:
    student = make_student()
    callback = Distillation(make_teacher(), [KD(), FitNet(layers={"layer2.bn2": "layer2.bn2"}, relu=False)])
    run = trainer(callbacks=[callback, SwapsNorms()], max_steps=2)
    run.fit(student, loader())
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in student.modules())
    assert "kd/FitNet" in run.callback_metrics


@pytest.mark.situation("LR finder, then fit", result="works")
@DOORS
def test_lr_finder(door: int, tmp_path: Path) -> None:
    student = make_student()
    methods = [KD(), FitNet()]
    module = DistillationModule(student, make_teacher(), methods) if door == 1 else student
    callbacks = [] if door == 1 else [Distillation(make_teacher(), methods)]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=1)
    found = Tuner(run).lr_find(module, loader(100), num_training=20, update_attr=False)
    assert found is not None
    assert found.suggestion() is not None
    run.fit(module, loader())
    assert "kd/KD" in run.callback_metrics


@pytest.mark.situation("weight averaging after Distillation")
@DOORS
def test_weight_averaging(door: int) -> None:
    from lightning.pytorch.callbacks import EMAWeightAveraging

    averaging = EMAWeightAveraging(decay=0.5)
    initial, _, _ = through_door(door, seeded(Innocent), callbacks=[averaging])
    averaged = averaging._average_model.module
    if door == 1:
        averaged = averaged.student
    reference = type(averaging)(decay=0.5)
    expected = seeded(ByHand)
    import by_hand as hand

    hand.write_in(expected, copy.deepcopy(initial))
    trainer(callbacks=[hand.Start(), reference]).fit(expected, loader())
    assert difference(averaged.model, reference._average_model.module.model) == 0.0


@pytest.mark.situation("weight averaging before Distillation", result="refused; door 1 puts itself first")
def test_weight_averaging_in_the_wrong_order() -> None:
    from lightning.pytorch.callbacks import EMAWeightAveraging

    callbacks = [EMAWeightAveraging(), Distillation(make_teacher(), KD())]
    with pytest.raises(RuntimeError, match=r"EMAWeightAveraging stands before Distillation.*Put Distillation first"):
        trainer(callbacks=callbacks).fit(make_student(), loader())
    module = DistillationModule(make_student(), make_teacher(), KD())
    trainer(callbacks=[EMAWeightAveraging()], max_steps=2).fit(module, loader())


@pytest.mark.situation("resume in the middle of training")
@DOORS
def test_resume(door: int, tmp_path: Path) -> None:
    def run(epochs: int, checkpoint: str | None = None) -> tuple[Any, Any]:
        from by_hand import Start, methods

        student = seeded(Innocent)
        save = ModelCheckpoint(tmp_path / str(epochs), filename="last")
        if door == 1:
            module: Any = DistillationModule(student, make_teacher(), methods(), task_weight=0.1)
            distillation, callbacks = module.distillation, [Start(), save]
        else:
            module, distillation = student, Distillation(make_teacher(), methods(), task_weight=0.1)
            callbacks = [distillation, Start(), save]
        trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=True).fit(
            module, loader(), ckpt_path=checkpoint
        )
        return student, distillation.engine.methods[1]

    student, method = run(3)
    run(2)
    resumed, resumed_method = run(3, str(tmp_path / "2" / "last.ckpt"))
    assert difference(student, resumed) == 0.0
    assert difference(method, resumed_method) == 0.0


@pytest.mark.situation("fit twice", result="works")
@DOORS
def test_fit_twice(door: int) -> None:
    student, teacher = make_student(), make_teacher()
    module = DistillationModule(student, teacher, [KD(), FitNet()]) if door == 1 else student
    callbacks = [] if door == 1 else [Distillation(teacher, [KD(), FitNet()])]
    for _ in range(2):
        before = copy.deepcopy(student.model)
        run = trainer(callbacks=callbacks, max_epochs=1)
        run.fit(module, loader())
        assert difference(before, student.model) > 0
        assert {"kd/KD", "kd/FitNet"} <= set(run.callback_metrics)


@pytest.mark.situation("a LightningModule as teacher", result="works")
@DOORS
def test_lightning_teacher(door: int) -> None:
    teacher = make_student()
    student = make_student()
    module = DistillationModule(student, teacher, [KD(), FitNet()]) if door == 1 else student
    callbacks = [] if door == 1 else [Distillation(teacher, [KD(), FitNet()])]
    run = trainer(callbacks=callbacks, max_steps=2)
    run.fit(module, loader())
    assert float(run.callback_metrics["kd/FitNet"]) > 0
