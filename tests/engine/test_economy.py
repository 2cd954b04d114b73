"""Teachers in half precision, channels last, compiled, quantized: taps and logits come as methods expect them."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import Distillation, DistillationModule, Teacher
from lightning_kd.methods import DML, KD, FitNet


def convolutional(width):
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


class Student(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = convolutional(4)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


METHODS = [KD(), FitNet(layers={"0": "0"})]


STEPS = 4
DRY = 2  # a look at the layers and a dry run


def fit(teacher, methods=METHODS, *, door=2, student=Student, **options):
    torch.manual_seed(1)
    student = student()
    generator = torch.Generator().manual_seed(3)
    data = TensorDataset(torch.randn(16, 3, 6, 6, generator=generator), torch.arange(16) % 5)
    methods = [copy.deepcopy(method) for method in methods]
    doors = [Distillation(teacher, method=methods)] if door == 2 else []
    module = student if door == 2 else DistillationModule(student, teacher, method=methods)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=doors,
        **options,
    )
    trainer.fit(module, DataLoader(data, batch_size=4))
    return torch.cat([value.flatten().float() for value in student.state_dict().values()])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return convolutional(6)


@pytest.mark.parametrize("door", [1, 2])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_leaves_the_users_teacher_alone(network, precision, door):
    before = copy.deepcopy(network.state_dict())
    exact = fit(network, door=door)
    halved = fit(Teacher(network, precision=precision), door=door)
    torch.testing.assert_close(halved, exact, rtol=0, atol=5e-3)
    assert not torch.equal(halved, exact)
    for name, value in network.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_what_half_precision_gives_is_float32(network):
    teacher = Teacher(network, precision="bf16")
    assert next(teacher.module.parameters()).dtype == torch.bfloat16
    view = teacher.view((torch.randn(2, 3, 6, 6),), {})
    assert view.logits.dtype == torch.float32


def test_its_precision_is_its_own(network):
    teacher = Teacher(network, precision="fp16")
    fit(teacher, precision="bf16-true")
    assert next(teacher.module.parameters()).dtype == torch.float16


def test_channels_last_is_a_matter_of_layout(network):
    torch.testing.assert_close(
        fit(Teacher(network, channels_last=True)), fit(copy.deepcopy(network)), rtol=0, atol=1e-6
    )
    assert network[0][0].weight.is_contiguous(memory_format=torch.channels_last)


def test_compiled(network, monkeypatch):
    torch._dynamo.reset()
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compile_(module, backend="aot_eager"))
    teacher = Teacher(network, compile=True)
    assert teacher.network.compiled
    torch.testing.assert_close(fit(teacher), fit(network), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_teacher_is_a_teacher(network):
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(network).eval(), {nn.Linear}, dtype=torch.qint8)
    assert "int8" in repr(quantized).lower()
    torch.testing.assert_close(fit(quantized), fit(network), rtol=0, atol=5e-3)


def test_under_the_students_autocast(network):
    seen = []
    network[3].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    fit(network, [KD()], precision="bf16-mixed")
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}], ids=["plain", "accumulating"])
def test_a_teacher_that_starts_with_the_student_says_the_same(network, options):
    order = []
    network[3].register_forward_hook(lambda *_: order.append("teacher"))
    usual = fit(network, **options)
    order.clear()
    torch.manual_seed(1)
    started = fit(Teacher(network, overlap=True), **options)
    assert torch.equal(started, usual)
    assert order.count("teacher") == STEPS + DRY


def test_it_starts_before_the_student_is_done(network):
    order = []
    network[3].register_forward_hook(lambda *_: order.append("teacher"))

    class Telling(Student):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            order.append("student")
            return loss

    for teacher, expected in (
        (network, ["student", "teacher"]),
        (Teacher(network, overlap=True), ["teacher", "student"]),
    ):
        order.clear()
        fit(teacher, [KD()], student=Telling)
        assert order[-2:] == expected


def test_calls_that_are_not_trained_are_forgotten(network):
    class Calling(Student):
        def training_step(self, batch, batch_idx):
            self.net(batch[0][:1]).detach()
            return super().training_step(batch, batch_idx)

    usual = fit(network, [KD()], student=Calling)
    assert torch.equal(fit(Teacher(network, overlap=True), [KD()], student=Calling), usual)


def test_unknown_precisions_are_refused(network):
    with pytest.raises(ValueError, match="precision must be one of bf16, fp16 or None, got 'int8'"):
        Teacher(network, precision="int8")


def test_peers_train_in_the_students_precision(network):
    with pytest.raises(ValueError, match="a peer trains along, in the student's precision"):
        Distillation(Teacher(network, precision="bf16"), method=DML())
