"""Distillation makes no step wait for the device, and keeps nothing from step to step."""

from __future__ import annotations

import gc

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods import DKD, KD, RKD, AttentionTransfer, FitNet, discover
from lightning_kd.testing.rig import Rig, inputs_for

ATEN = torch.ops.aten
WAITING = {ATEN._local_scalar_dense.default, ATEN.is_nonzero.default, ATEN.nonzero.default}
"""What ``item()``, ``bool(tensor)`` and ``nonzero()`` come down to: the host reads a value."""
INDEXING = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default}
COPYING = ("cpu", "numpy", "tolist")

DECIDES = {
    "LD": "it picks the positions that lie in boxes",
    "SwitOKD": "it switches between its modes by what the batch says",
}
"""Methods that must look at values."""


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0
        self._originals = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])
        self.count += func in WAITING or by_mask
        return func(*args, **(kwargs or {}))

    def __enter__(self):
        for name in COPYING:
            self._originals[name] = getattr(torch.Tensor, name)
            setattr(torch.Tensor, name, self._counted(self._originals[name]))
        return super().__enter__()

    def __exit__(self, *error):
        for name, original in self._originals.items():
            setattr(torch.Tensor, name, original)
        return super().__exit__(*error)

    def _counted(self, original):
        def count(tensor, *args, **kwargs):
            self.count += 1
            return original(tensor, *args, **kwargs)

        return count


@pytest.mark.parametrize("name", discover())
def test_methods_read_no_values(name):
    method = discover()[name]
    rig = Rig(method, inputs_for(method))
    exchange = rig.exchange()
    with Waits() as waits:
        rig.method(exchange).backward()
    assert bool(waits.count) == (name in DECIDES)


def test_waiting_is_noticed():
    with Waits() as waits:
        value = torch.ones(2)
        bool(value[0])
        value.tolist()
        value[value > 0]
        value.sum().item()
    assert waits.count == 4


class Student(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network(4)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def network(width):
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


class Counting(L.Callback):
    """Counts waits, and the living tensors, in every step."""

    def __init__(self, every=1):
        self.every, self.waits, self.tensors = every, [], []

    def on_train_batch_start(self, *args):
        self.mode = Waits()
        self.mode.__enter__()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.mode.__exit__(None, None, None)
        self.waits.append(self.mode.count)
        if batch_idx % self.every == self.every - 1:
            gc.collect()
            self.tensors.append(sum(isinstance(item, torch.Tensor) for item in gc.get_objects()))


def fit(door, steps=8, every=1):
    torch.manual_seed(0)
    student, teacher = Student(), network(6)
    layers = {"0": "0"}
    methods = [KD(), DKD(), RKD(), AttentionTransfer(layers=layers), FitNet(layers=layers)]
    counting = Counting(every)
    callbacks = [counting, *([Distillation(teacher, method=methods)] if door == 2 else [])]
    module = DistillationModule(student, teacher, method=methods) if door == 1 else student
    images = torch.randn(4, 3, 6, 6)
    data = torch.utils.data.ConcatDataset([TensorDataset(images, torch.arange(4))] * steps)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(module, DataLoader(data, batch_size=4))
    return counting


@pytest.mark.parametrize("door", [1, 2])
def test_a_step_waits_no_more_often_than_without_distillation(door):
    plain = fit(None).waits[1:]
    assert fit(door).waits[1:] == plain


@pytest.mark.slow
@pytest.mark.parametrize("door", [1, 2])
def test_nothing_is_kept_over_two_thousand_steps(door):
    tensors = fit(door, steps=2000, every=400).tensors
    assert len(tensors) == 5
    assert max(tensors) - min(tensors) <= 2
