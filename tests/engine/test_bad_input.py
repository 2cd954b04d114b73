"""Bad input is refused with what was given, what was expected and what to do."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from support import Block, Innocent, ResNetLike, loader, make_student, make_teacher, trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_kd import Distillation, DistillationModule
from lightning_kd.methods import DKD, KD, FitNet


def fit(student: Any, distillation: Distillation, data: Any = None, **kwargs: Any) -> None:
    trainer(callbacks=[distillation], max_steps=2, **kwargs).fit(student, data or loader())


def test_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown layer 'layr2' in ResNetLike.*'layer2'"):
        fit(make_student(), Distillation(make_teacher(), FitNet(layers={"layr2": "layer2"})))
    with pytest.raises(ValueError, match=r"unknown layer 'block9'"):
        fit(make_student(), Distillation(make_teacher(), FitNet(layers={"layer2": "block9"})))


def test_unknown_tap_option() -> None:
    with pytest.raises(ValueError, match="unknown option 'inputs'"):
        fit(make_student(), Distillation(make_teacher(), FitNet(layers={"layer2:inputs": "layer2"})))


def test_logits_of_different_width() -> None:
    teacher = make_teacher()
    teacher.fc = nn.Linear(24, 7)
    with pytest.raises(ValueError, match=r"same shape, got \(4, 5\) and \(4, 7\).*num_classes"):
        fit(make_student(), Distillation(teacher, KD()))


def test_missing_target() -> None:
    class Unlabelled(Innocent):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.model(batch).pow(2).mean()

    data = DataLoader(torch.randn(8, 3, 8, 8), batch_size=4)
    with pytest.raises(ValueError, match=r"needs the target.*pass `target=`"):
        fit(Unlabelled(), Distillation(make_teacher(), DKD()), data)


def test_wrong_target_key() -> None:
    with pytest.raises(KeyError, match=r"target='label' is not in the batch, which is a list of length 2"):
        fit(make_student(), Distillation(make_teacher(), DKD(), target="label"))


def test_network_that_is_not_called() -> None:
    class Elsewhere(Innocent):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(3 * 8 * 8, 5)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.cross_entropy(self.other(batch[0].flatten(1)), batch[1])

    with pytest.raises(RuntimeError, match=r"network \(model\) was not called with gradients in training_step"):
        fit(Elsewhere(), Distillation(make_teacher(), KD(), network="model"))


def test_tap_that_never_fires() -> None:
    class Idle(ResNetLike):
        def __init__(self) -> None:
            super().__init__()
            self.spare = Block(8, 8, 1)

    student = make_student()
    student.model = Idle()
    with pytest.raises(KeyError, match="the tap 'spare' did not fire"):
        fit(student, Distillation(make_teacher(), FitNet(layers={"spare": "layer2"})))


def test_in_place_change_of_a_tapped_tensor() -> None:
    class InPlace(ResNetLike):
        def forward(self, x: Any) -> Any:
            x = self.layer2(self.layer1(self.stem(x).relu_()))
            return self.fc(self.layer3(x).mean((2, 3)))

    student = make_student()
    student.model = InPlace()
    with pytest.raises(RuntimeError, match=r"'stem' was changed in place.*'stem:clone'"):
        fit(student, Distillation(make_teacher(), FitNet(layers={"stem": "stem"})))
    fit(student, Distillation(make_teacher(), FitNet(layers={"stem:clone": "stem"})))


def test_class_instead_of_instance() -> None:
    with pytest.raises(TypeError, match=r"the class KD, expected an instance: write KD\(...\)"):
        Distillation(make_teacher(), KD)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="method holds a str"):
        Distillation(make_teacher(), ["KD"])  # type: ignore[list-item]


def test_no_method_and_no_teacher() -> None:
    with pytest.raises(ValueError, match="no method given"):
        Distillation(make_teacher())
    with pytest.raises(ValueError, match="KD needs a teacher"):
        Distillation(None, KD())


def test_teacher_that_is_no_module() -> None:
    with pytest.raises(TypeError, match=r"got type \(a class; instantiate it first\)"):
        Distillation(ResNetLike, KD())  # type: ignore[arg-type]


def test_students_that_do_not_fit_the_door() -> None:
    with pytest.raises(TypeError, match=r"plain nn.Module.*task=Classification"):
        DistillationModule(ResNetLike(), make_teacher(), KD())
    with pytest.raises(TypeError, match="student must be a LightningModule"):
        DistillationModule("resnet", make_teacher(), KD())  # type: ignore[arg-type]


def test_student_in_eval_mode() -> None:
    with pytest.raises(RuntimeError, match=r"eval mode.*Call `.train\(\)`"):
        fit(make_student().eval(), Distillation(make_teacher(), KD()))


def test_ambiguous_network_lists_the_candidates() -> None:
    class TwoParts(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 8))
            self.head = nn.Linear(8, 5)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.raises(ValueError, match=r"candidates with parameters: 'backbone', 'head'\).*network="):
        fit(TwoParts(), Distillation(make_teacher(), KD()))


def test_unknown_network() -> None:
    with pytest.raises(ValueError, match=r"network='modle' is not a sub-module of Innocent; the nearest are 'model'"):
        fit(make_student(), Distillation(make_teacher(), KD(), network="modle"))


def test_output_without_logits() -> None:
    class Odd(ResNetLike):
        def forward(self, x: Any) -> Any:
            return {"scores": super().forward(x)}

    class Scores(Innocent):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.cross_entropy(self.model(batch[0])["scores"], batch[1])

    student = Scores()
    student.model = Odd()
    with pytest.raises(TypeError, match=r"no logits found in the network's output of type dict.*logits="):
        fit(student, Distillation(make_teacher(), KD()))
    fit(student, Distillation(make_teacher(), KD(), logits=lambda o: o["scores"] if isinstance(o, dict) else o))


def test_feature_method_with_two_teachers() -> None:
    with pytest.raises(ValueError, match="FitNet compares the student's layers with one teacher, got 2"):
        fit(make_student(), Distillation([make_teacher(), make_teacher()], FitNet()))


def test_method_that_does_not_return_a_scalar() -> None:
    class Vector(KD):
        def forward(self, exchange: Any) -> Any:
            return exchange.student.logits.mean(0)

    with pytest.raises(TypeError, match=r"Vector.forward must return a scalar tensor, got shape \(5,\)"):
        fit(make_student(), Distillation(make_teacher(), Vector()))


def test_negative_weight() -> None:
    with pytest.raises(ValueError, match="weight must not be negative"):
        KD(weight=-1)
