"""A teacher is left after the last layer that anybody reads, and nothing else changes."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import Distillation, DistillationModule, Teacher
from lightning_kd.callbacks import FidelityMonitor, FusionRatio
from lightning_kd.methods import KD, AttentionTransfer, DistillationMethod, FitNet
from lightning_kd.methods.language import FusedLinearKL


class Net(nn.Module):
    """Two stages and a head, which count their calls."""

    def __init__(self, width, *, shared=False):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.shared = nn.ReLU() if shared else None
        self.fc = nn.Linear(width, 5)
        self.calls = {"stage2": 0, "fc": 0}
        for name in self.calls:
            getattr(self, name).register_forward_hook(lambda *_, name=name: self._count(name))

    def _count(self, name):
        self.calls[name] += 1

    def forward(self, images):
        maps = self.stage1(images)
        if self.shared:
            maps = self.shared(maps)
        maps = self.stage2(maps)
        if self.shared:
            maps = self.shared(maps)
        return self.fc(maps.mean((2, 3)))


class Student(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net(4)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def loader():
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(16, 1, 6, 6, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(16) % 5), batch_size=4)


def fit(method, teacher=None, callbacks=(), *, validate=False, door=2):
    torch.manual_seed(0)
    student, teacher = Student(), Net(6) if teacher is None else teacher
    options = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    module = DistillationModule(student, teacher, method=method) if door == 1 else student
    doors = [] if door == 1 else [Distillation(teacher, method=method)]
    trainer = L.Trainer(**options, callbacks=[*doors, *callbacks])
    trainer.fit(module, loader(), loader() if validate else None)
    return student, teacher, trainer


STEPS = 8
DRY = 2  # a look at the layers and a dry run, where shapes are needed
FIRST = 1


@pytest.mark.parametrize("door", [1, 2])
def test_later_stages_are_not_computed_and_the_student_is_the_same(door):
    layers = {"stage1": "stage1"}
    student, teacher, _ = fit(FitNet(layers=layers), door=door)
    method = FitNet(layers=layers)
    method.needs_teacher_output = True
    other, whole, _ = fit(method, door=door)
    for left, right in zip(student.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right)
    assert whole.calls == {"stage2": DRY + STEPS, "fc": DRY + STEPS}
    assert teacher.calls == {"stage2": DRY + FIRST, "fc": DRY + FIRST}


def test_the_last_tap_decides():
    _, teacher, _ = fit(AttentionTransfer(layers={"stage1": "stage1", "stage2": "stage2"}))
    assert teacher.calls == {"stage2": STEPS, "fc": FIRST}


def test_a_layer_whose_input_is_read_does_not_run():
    student, teacher, _ = fit(FusedLinearKL(layers={"fc:input": "fc:input"}))
    assert teacher.calls == {"stage2": DRY + STEPS, "fc": DRY + FIRST}
    assert student.net.calls["fc"] >= STEPS


def test_logits_need_the_whole_teacher():
    _, teacher, _ = fit([AttentionTransfer(layers={"stage1": "stage1"}), KD()])
    assert teacher.calls == {"stage2": STEPS, "fc": STEPS}


def test_a_layer_that_is_called_twice_keeps_what_it_gave_last():
    teacher = Net(6, shared=True)
    _, teacher, _ = fit(AttentionTransfer(layers={"stage2": "shared"}), teacher)
    assert teacher.calls == {"stage2": STEPS, "fc": STEPS}


def test_a_fusion_ratio_reads_the_logits():
    from lightning_kd.callbacks import Fixed

    _, teacher, _ = fit([AttentionTransfer(layers={"stage1": "stage1"}), KD()], callbacks=[FusionRatio(Fixed(0.5))])
    assert teacher.calls["fc"] >= STEPS


def test_monitors_still_see_the_whole_teacher():
    _, teacher, trainer = fit(
        AttentionTransfer(layers={"stage1": "stage1"}), callbacks=[FidelityMonitor()], validate=True
    )
    assert "fidelity/agreement" in trainer.callback_metrics
    validations = 2 * 4 + 2  # two epochs, and the sanity check
    assert teacher.calls["fc"] == FIRST + validations


def test_a_compiled_teacher_runs_to_its_end():
    torch._dynamo.reset()
    teacher = Net(6)
    for name in teacher.calls:
        getattr(teacher, name)._forward_hooks.clear()
    compiled = torch.compile(teacher, backend="eager")
    student, _, _ = fit(AttentionTransfer(layers={"stage1": "stage1"}), compiled)
    torch.manual_seed(0)
    assert all(value.isfinite().all() for value in student.state_dict().values())


class Liar(DistillationMethod):
    """Reads the logits, but says that it does not."""

    needs_teacher_output = False

    def __init__(self):
        super().__init__(1.0, {"stage1": "stage1"})

    def forward(self, exchange):
        return (exchange.student.logits - exchange.teacher.logits).square().mean()


def test_a_method_that_reads_more_than_it_says_is_told():
    with pytest.raises(RuntimeError, match="Set needs_teacher_output = True"):
        fit(Liar())


def test_hooks_are_gone_afterwards():
    _, teacher, _ = fit(FitNet(layers={"stage1": "stage1"}))
    before = teacher.calls["fc"]
    assert teacher(torch.randn(1, 1, 6, 6)).shape == (1, 5)
    assert teacher.calls["fc"] == before + 1
    assert not teacher.stage1._forward_hooks


def test_other_views_of_the_teacher_are_whole():
    teacher = Teacher(Net(6))
    assert teacher.view((torch.randn(2, 1, 6, 6),), {}).logits.shape == (2, 5)
    assert teacher.features_view((torch.randn(2, 1, 6, 6),), {}).logits.shape == (2, 5)
