"""What a user sees of the two doors: names, hooks, checkpoints, and the objects given back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from support import CLASSES, Innocent, ResNetLike, difference, loader, make_student, make_teacher, trainer

from lightning_kd import Classification, Distillation, DistillationModule
from lightning_kd.methods import KD, FitNet


def fit(
    door: int, student: Any, method: Any, teacher: Any = None, **kwargs: Any
) -> tuple[L.Trainer, L.LightningModule]:
    teacher = make_teacher() if teacher is None else teacher
    callbacks = kwargs.pop("callbacks", [])
    if door == 1:
        module: L.LightningModule = DistillationModule(student, teacher, method)
    else:
        module, callbacks = student, [Distillation(teacher, method), *callbacks]
    run = trainer(callbacks=callbacks, **kwargs)
    run.fit(module, loader(), loader(8))
    return run, module


@pytest.mark.parametrize("door", [1, 2])
def test_the_students_metrics_keep_their_names(door: int) -> None:
    plain = make_student()
    alone = trainer()
    alone.fit(plain, loader(), loader(8))
    run, _ = fit(door, make_student(), [KD(), FitNet()])
    assert set(run.callback_metrics) == {*alone.callback_metrics, "kd/task", "kd/KD", "kd/FitNet"}


def test_both_doors_log_the_same_values() -> None:
    first, _ = fit(1, make_student(), [KD()])
    second, _ = fit(2, make_student(), [KD()])
    assert {k: float(v) for k, v in first.callback_metrics.items()} == {
        k: float(v) for k, v in second.callback_metrics.items()
    }


@pytest.mark.parametrize("door", [1, 2])
def test_hooks_of_the_student_run_and_the_scheduler_steps(door: int) -> None:
    student = make_student()
    run, _ = fit(door, student, KD())
    assert student.epoch_ends == 2
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("door", [1, 2])
def test_module_and_teacher_are_left_as_they_were(door: int) -> None:
    student, teacher = make_student(), make_teacher()
    teacher.fc.requires_grad_(False)
    before_student, before_teacher = set(vars(student)), set(vars(teacher))
    weights = copy.deepcopy(teacher.state_dict())
    fit(door, student, [KD(), FitNet()], teacher)
    added = {name for name in set(vars(student)) - before_student if not name.startswith("_")}
    assert added == set()
    assert set(vars(teacher)) == before_teacher
    assert "_kd" not in dict(student.named_children())
    assert "forward" not in vars(student.model)
    assert all(not layer._forward_hooks for net in (student, teacher) for layer in net.modules())
    assert [p.requires_grad for p in teacher.parameters()][-2:] == [False, False]
    assert next(teacher.parameters()).requires_grad
    assert teacher.training
    assert all(torch.equal(weights[key], value) for key, value in teacher.state_dict().items())
    trainer(max_epochs=1).fit(student, loader())


@pytest.mark.parametrize("door", [1, 2])
def test_an_exception_leaves_nothing_behind(door: int) -> None:
    class Breaks(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            raise KeyboardInterrupt if door == 1 else RuntimeError("stop")

    student, teacher = make_student(), make_teacher()
    with pytest.raises((RuntimeError, SystemExit, KeyboardInterrupt)):
        fit(door, student, [KD(), FitNet()], teacher, callbacks=[Breaks()])
    assert not {"training_step", "manual_backward", "configure_optimizers", "log"} & set(vars(student))
    assert "_kd" not in dict(student.named_children())
    assert all(not layer._forward_hooks for net in (student, teacher) for layer in net.modules())


def test_door_2_writes_checkpoints_of_the_student_alone(tmp_path: Path) -> None:
    for weights_only in (False, True):
        folder = tmp_path / str(weights_only)
        save = ModelCheckpoint(folder, filename="last", save_weights_only=weights_only)
        student = make_student()
        fit(2, student, [KD(), FitNet()], callbacks=[save], enable_checkpointing=True, max_epochs=1)
        saved = torch.load(folder / "last.ckpt", weights_only=True)
        assert set(saved["state_dict"]) == set(student.state_dict())
        loaded = Innocent.load_from_checkpoint(folder / "last.ckpt")
        assert difference(loaded, student) == 0.0


def test_save_student_writes_what_the_students_class_loads(tmp_path: Path) -> None:
    student = make_student(width=3)
    _, module = fit(1, student, [KD(), FitNet()], max_epochs=1)
    assert isinstance(module, DistillationModule)
    path = module.save_student(tmp_path / "deep" / "student.ckpt")
    loaded = Innocent.load_from_checkpoint(path)
    assert module.student is student
    assert loaded.hparams.width == 3
    assert difference(loaded, student) == 0.0
    assert [file.name for file in path.parent.iterdir()] == ["student.ckpt"]


def test_door_1_checkpoint_holds_no_teacher_and_loads_again(tmp_path: Path) -> None:
    save = ModelCheckpoint(tmp_path, filename="last")
    student = make_student()
    _, module = fit(1, student, [KD(), FitNet()], callbacks=[save], enable_checkpointing=True, max_epochs=1)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {f"student.{key}" for key in student.state_dict()}
    module.load_state_dict(state)


def test_a_plain_network_with_a_task(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResNetLike()
    task = Classification(CLASSES, scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1))
    module = DistillationModule(network, make_teacher(), [KD(), FitNet()], task=task)
    run = trainer()
    before = copy.deepcopy(network)
    run.fit(module, loader(), loader(8))
    assert module.student is network
    assert difference(before, network) > 0
    assert {"train/loss", "val/loss", "val/acc", "val/ece", "kd/KD"} <= set(run.callback_metrics)
    results = run.test(module, loader(8), verbose=False)
    assert 0 <= results[0]["test/acc"] <= 1
    path = module.save_student(tmp_path / "net.pt")
    ResNetLike().load_state_dict(torch.load(path, weights_only=True))
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * 0.01)


def test_validate_test_and_predict_without_fit_are_the_students(tmp_path: Path) -> None:
    student = make_student()
    module = DistillationModule(student, make_teacher(), KD())
    alone, wrapped = trainer(), trainer()
    expected = alone.validate(student, loader(8), verbose=False)
    assert wrapped.validate(module, loader(8), verbose=False) == expected
    assert "log" not in vars(student)


def test_the_trainer_can_go_on_with_another_module() -> None:
    module = DistillationModule(make_student(), make_teacher(), KD())
    run = trainer(max_epochs=1)
    run.fit(module, loader())
    other = make_student()
    other.train_acc = other.val_acc = None

    def step(batch: Any, batch_idx: int) -> torch.Tensor:
        assert "_kd" not in dict(other.named_children())
        return torch.nn.functional.cross_entropy(other.model(batch[0]), batch[1])

    other.training_step = step
    run.fit_loop.max_epochs = 2
    run.fit(other, loader())
    assert "kd/KD" not in run.callback_metrics


@pytest.mark.parametrize("door", [1, 2])
def test_several_teachers_are_averaged(door: int) -> None:
    teachers = [make_teacher(4), make_teacher(6)]
    run, _ = fit(door, make_student(), KD(), teachers, max_steps=1)
    values = [float(fit(door, make_student(), KD(), [t], max_steps=1)[0].callback_metrics["kd/KD"]) for t in teachers]
    assert float(run.callback_metrics["kd/KD"]) == pytest.approx(sum(values) / 2)


def test_two_methods_of_one_kind_have_their_own_names() -> None:
    run, _ = fit(2, make_student(), [KD(), KD(temperature=1)], max_steps=1)
    assert {"kd/KD", "kd/KD-2"} <= set(run.callback_metrics)


@pytest.mark.parametrize("door", [1, 2])
def test_a_copy_made_during_training_stands_on_its_own(door: int) -> None:
    copies: list[Any] = []

    class Copies(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *args: Any) -> None:
            if not copies:
                copies.append(copy.deepcopy(module))

    student = make_student()
    fit(door, student, [KD(), FitNet()], callbacks=[Copies()], max_epochs=1)
    copied = copies[0].student if door == 1 else copies[0]
    x = torch.ones(2, 3, 8, 8)
    torch.nn.init.zeros_(copied.model.fc.weight)
    torch.nn.init.zeros_(copied.model.fc.bias)
    assert not copied.eval()(x).any()
    assert student.eval()(x).any()
    assert copied.model.forward.__self__ is copied.model
    assert copied.training_step.__self__ is copied
