"""How the machine is used: which wishes are refused, and that the others change nothing but the speed."""

from __future__ import annotations

import pytest
import torch
from kd_bench.data.base import open_data
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.protocol import MethodRow, Protocol, TrainerSpec
from kd_bench.training.fit import Fitted, fit
from kd_bench.training.machine import check_hardware, check_machine, trainer_arguments
from torch import Tensor, nn

PLAIN = MethodRow()


@pytest.mark.parametrize(
    ("machine", "batch_size", "row", "message"),
    [
        ({"devices": 6}, 64, {}, r"64 samples cannot be divided equally among 6 devices; use 4 or 8 devices"),
        ({"devices": 100}, 64, {}, "use 64 devices"),
        ({"strategy": "ddp"}, 64, {}, "'ddp' is for several devices, but devices is 1"),
        (
            {"strategy": "deepspeed", "devices": 2},
            64,
            {},
            "unknown strategy 'deepspeed'; the benchmark can use auto, ddp",
        ),
        ({"sync_batchnorm": True, "devices": 2}, 64, {}, "sync_batchnorm works on GPUs only"),
        ({"strategy": "fsdp", "devices": 2}, 64, {"class": "SimKD"}, "SimKD evaluates the student together.*use 'ddp'"),
        ({"strategy": "fsdp", "devices": 2}, 64, {"class": "DML"}, "DML trains its teacher along.*use 'ddp'"),
    ],
)
def test_what_cannot_work_is_refused(machine: object, batch_size: int, row: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_machine(TrainerSpec.model_validate(machine), "cpu", batch_size, MethodRow.model_validate(row))


@pytest.mark.parametrize(
    ("machine", "row"),
    [
        ({}, {}),
        ({"devices": 4}, {}),
        ({"devices": 2, "strategy": "ddp"}, {"class": "SimKD"}),
        ({"devices": 2, "strategy": "fsdp"}, {"class": "KD"}),
        ({"channels_last": True, "compile": True, "loader_workers": 3}, {}),
    ],
)
def test_what_can_work_is_not(machine: object, row: object) -> None:
    check_machine(TrainerSpec.model_validate(machine), "cpu", 64, MethodRow.model_validate(row))


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without GPUs")
@pytest.mark.parametrize(
    ("machine", "message"),
    [({"accelerator": "gpu"}, "'gpu' was asked for, but there is none"), ({"sync_batchnorm": True}, "on GPUs only")],
)
def test_hardware_that_is_not_there_is_missed(machine: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_hardware(TrainerSpec.model_validate(machine), "auto")
    check_hardware(TrainerSpec(devices=64), "cpu")


def test_the_accelerator_is_the_protocols_unless_asked_otherwise() -> None:
    assert trainer_arguments(TrainerSpec(), "auto")["accelerator"] == "auto"
    assert trainer_arguments(TrainerSpec(accelerator="cpu"), "auto")["accelerator"] == "cpu"


def _fit(tiny: Protocol, network: nn.Module | None = None, **machine: object) -> Fitted:
    torch.manual_seed(0)
    network = network or create_model("mini_cnn4", num_classes=10, in_channels=1)
    data = open_data(tiny.data, tiny.student_recipe, 0)
    return fit(network, tiny.student_recipe, data, accelerator="cpu", machine=TrainerSpec.model_validate(machine))


def test_channels_last_changes_the_layout_only(tiny: Protocol) -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = nn.Conv2d(1, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
            self.layouts: set[tuple[bool, bool]] = set()

        def forward(self, images: Tensor) -> Tensor:
            features = self.first(images)
            self.layouts.add((self.training, features.is_contiguous(memory_format=torch.channels_last)))
            return self.rest(features)

    torch.manual_seed(1)
    plain = _fit(tiny, Watched())
    torch.manual_seed(1)
    changed = _fit(tiny, Watched(), channels_last=True)
    assert plain.network.layouts == {(True, False), (False, False)}
    assert changed.network.layouts == {(True, True), (False, True)}
    assert changed.recorder.curve.train_loss == pytest.approx(plain.recorder.curve.train_loss, rel=1e-4)


@pytest.mark.slow
def test_a_compiled_student_learns_the_same(tiny: Protocol) -> None:
    plain, compiled = _fit(tiny), _fit(tiny, compile=True)
    assert compiled.network._compiled_call_impl is not None
    assert compiled.recorder.curve.train_loss == pytest.approx(plain.recorder.curve.train_loss, rel=1e-4)
    assert compiled.network.state_dict().keys() == plain.network.state_dict().keys()


def test_the_gradient_is_clipped(tiny: Protocol) -> None:
    recipe = tiny.student_recipe.model_copy(update={"clip": 1e-4})
    torch.manual_seed(0)
    network = create_model("mini_cnn4", num_classes=10, in_channels=1)
    before = network.state_dict()["fc.bias"].clone()
    optimizer = recipe.optimizer.model_copy(update={"weight_decay": 0.0})
    recipe = recipe.model_copy(update={"optimizer": optimizer})
    fit(network, recipe, open_data(tiny.data, recipe, 0), accelerator="cpu")
    moved = (network.state_dict()["fc.bias"] - before).abs().max()
    assert 0 < moved < 3e-3
