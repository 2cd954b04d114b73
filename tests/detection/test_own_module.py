"""Feature methods on a LightningModule that calls a torchvision detector as usual, ``model(images, targets)``."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from small_detectors import detection_loader, small_detector
from support import difference, trainer

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods import CWD, PKD, FitNet

LEVELS = [f"backbone.fpn.layer_blocks.{level}" for level in range(3)]
LAYERS = dict(zip(LEVELS, LEVELS, strict=True))


class Users(L.LightningModule):
    """Knows neither of distillation nor of detection networks."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = small_detector(name).model

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        losses = self.model(*batch)
        return sum(losses.values())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.002)


@pytest.mark.parametrize("door", [1, 2])
@pytest.mark.parametrize("name", ["retinanet_resnet18_fpn", "fasterrcnn_resnet18_fpn"])
@pytest.mark.parametrize(
    "method", [FitNet, pytest.param(CWD, marks=pytest.mark.slow), pytest.param(PKD, marks=pytest.mark.slow)]
)
def test_feature_methods_work_on_taps_of_the_users_model(method: Any, name: str, door: int):
    student, plain = Users(name), Users(name)
    teacher = small_detector(name, seed=1).model
    start = {key: value.clone() for key, value in teacher.state_dict().items()}
    distilled: Any = method(layers=LAYERS)
    torch.manual_seed(0)
    if door == 1:
        trainer(max_epochs=1).fit(DistillationModule(student, teacher, distilled), detection_loader())
    else:
        trainer(max_epochs=1, callbacks=[Distillation(teacher, distilled)]).fit(student, detection_loader())
    torch.manual_seed(0)
    trainer(max_epochs=1).fit(plain, detection_loader())
    assert difference(student.model, plain.model) > 0.0
    assert all(torch.equal(value, start[key]) for key, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_method_without_weight_changes_nothing():
    name = "fasterrcnn_resnet18_fpn"
    student, plain = Users(name), Users(name)
    distillation = Distillation(small_detector(name, seed=1).model, FitNet(layers=LAYERS, weight=0.0))
    torch.manual_seed(0)
    trainer(max_epochs=1, callbacks=[distillation]).fit(student, detection_loader())
    torch.manual_seed(0)
    trainer(max_epochs=1).fit(plain, detection_loader())
    assert difference(student.model, plain.model) == 0.0
