import copy

import lightning as L
import pytest
import torch
import torch.nn.functional as F

from lightning_kd import Distillation, DistillationModule
from lightning_kd.callbacks import LossBalance
from lightning_kd.methods.logits.dkd import DKD
from lightning_kd.methods.logits.kd import KD, kd_loss
from lightning_kd.schedules import WarmUp


class Logged(L.Callback):
    """Keeps what was logged at every step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, *args):
        values = {name: value.item() for name, value in trainer.logged_metrics.items() if name.startswith("balance")}
        self.steps.append(values)

    @property
    def measured(self):
        """The steps with new values: Lightning repeats the last ones in between."""
        return [step for step, values in enumerate(self.steps) if step == 0 or values != self.steps[step - 1]]


def norms(student, teacher, batch, task_weight, kd_weight, parameters=None):
    """Gradients of the weighted terms, one backward pass each."""
    x, y = batch
    logits = student.model(x)
    parameters = list(parameters or student.model.parameters())
    flat = []
    for term in (task_weight * F.cross_entropy(logits, y), kd_weight * kd_loss(logits, teacher(x).detach(), 2.0)):
        gradients = torch.autograd.grad(term, parameters, retain_graph=True)
        flat.append(torch.cat([gradient.flatten() for gradient in gradients]))
    task, kd = flat
    return {
        "balance/norm/task": task.norm().item(),
        "balance/norm/KD": kd.norm().item(),
        "balance/ratio/KD": (kd.norm() / task.norm()).item(),
        "balance/cosine/KD": F.cosine_similarity(task, kd, dim=0).item(),
    }


@pytest.mark.parametrize("door", ["callback", "wrapper"])
def test_norms_equal_separate_backward_passes(kit, door):
    student, teacher, logged = kit.Student(), kit.teacher(), Logged()
    expected = norms(student, teacher, next(iter(kit.loader())), 0.1, 0.9 / 4)
    method, balance = KD(2.0, weight=0.9 * WarmUp(4)), LossBalance(every_n_steps=3)
    if door == "callback":
        trainer = kit.trainer(Distillation(teacher, method, task_weight=0.1), balance, logged)
        module = student
    else:
        trainer = kit.trainer(balance, logged)
        module = DistillationModule(student, teacher, method, task_weight=0.1)
    trainer.fit(module, kit.loader())
    assert logged.steps[0] == pytest.approx(expected, rel=1e-4)
    assert logged.measured == [0, 3]
    assert not method._forward_hooks


def test_a_layer_alone(kit):
    student, teacher, logged = kit.Student(), kit.teacher(), Logged()
    expected = norms(student, teacher, next(iter(kit.loader())), 1.0, 1.0, student.model[2].parameters())
    trainer = kit.trainer(Distillation(teacher, KD(2.0)), LossBalance(layer="2"), logged)
    trainer.fit(student, kit.loader())
    assert logged.steps[0] == pytest.approx(expected, rel=1e-4)


def test_teachers_and_methods_are_told_apart(kit):
    logged = Logged()
    teacher = kit.teacher()
    distillation = Distillation([teacher, copy.deepcopy(teacher)], [KD(2.0), DKD(), KD(2.0)])
    kit.trainer(distillation, LossBalance(), logged).fit(kit.Student(), kit.loader())
    values = logged.steps[0]
    assert {"balance/norm/KD", "balance/norm/DKD", "balance/norm/KD-2"} <= set(values)
    assert values["balance/norm/KD"] == pytest.approx(values["balance/norm/KD-2"])
    expected = norms(kit.Student(), teacher, next(iter(kit.loader())), 1.0, 1.0)
    assert values["balance/norm/KD"] == pytest.approx(expected["balance/norm/KD"], rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"gradient_clip_val": 0.1}])
def test_training_is_left_alone(kit, options):
    def weights(*extra):
        student = kit.Student()
        trainer = kit.trainer(Distillation(kit.teacher(), KD()), *extra, max_epochs=2, **options)
        trainer.fit(student, kit.loader())
        return student.state_dict()

    plain, watched = weights(), weights(LossBalance(every_n_steps=1))
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_accumulation_measures_once_a_step(kit):
    logged = Logged()
    trainer = kit.trainer(Distillation(kit.teacher(), KD()), LossBalance(2), logged, accumulate_grad_batches=2)
    trainer.fit(kit.Student(), kit.loader())
    assert logged.measured == [0, 4]


def test_manual_optimization(kit):
    class Manual(kit.Student):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    student, teacher, logged = Manual(), kit.teacher(), Logged()
    expected = norms(student, teacher, next(iter(kit.loader())), 1.0, 1.0)
    kit.trainer(Distillation(teacher, KD(2.0)), LossBalance(), logged).fit(student, kit.loader())
    assert logged.steps[0] == pytest.approx(expected, rel=1e-4)


def test_without_a_task_loss_there_are_only_norms(kit):
    logged = Logged()
    distillation = Distillation(kit.teacher(), KD(), task_weight=0.0)
    kit.trainer(distillation, LossBalance(), logged).fit(kit.Student(), kit.loader())
    assert set(logged.steps[0]) == {"balance/norm/task", "balance/norm/KD"}


def test_refusals(kit):
    with pytest.raises(ValueError, match="at least 1"):
        LossBalance(every_n_steps=0)
    with pytest.raises(RuntimeError, match="add a Distillation"):
        kit.trainer(LossBalance()).fit(kit.Student(), kit.loader())
    student = kit.Student()
    student.model.compile(backend="eager")
    with pytest.raises(RuntimeError, match="donated_buffer"):
        kit.trainer(Distillation(kit.teacher(), KD()), LossBalance()).fit(student, kit.loader())
