"""The LightningModule around a detector, alone and with distillation through both doors."""

from __future__ import annotations

import copy
import gc
import os
from typing import Any

import lightning as L
import pytest
import torch
from small_detectors import CLASSES, OPTIONS, batch, detection_loader, small_detector
from support import difference, trainer
from torch.utils.data import DataLoader
from torchmetrics.detection import MeanAveragePrecision

from lightning_kd import Distillation, DistillationModule
from lightning_kd.detection import Detector, taps
from lightning_kd.functional import pkd_loss
from lightning_kd.methods import CWD, FGD, FRS, PKD, CrossKD, DKDDet, FitNet

STUDENT, TEACHER = "retinanet_resnet18_fpn", "retinanet_resnet34_fpn"
TWO_STAGE = "fasterrcnn_resnet18_fpn"


def detector(name: str = STUDENT, seed: int = 0, **options: Any) -> Detector:
    torch.manual_seed(seed)
    options = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.002, momentum=0.9), **OPTIONS[name], **options}
    return Detector(name, CLASSES, **options)


class Seeded(L.Callback):
    """Seeds every step, in which the transform draws a size."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(batch_idx)


class Logged(L.Callback):
    """Keeps what was logged in every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.steps.append({name: value.item() for name, value in trainer.callback_metrics.items()})


# alone


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        (STUDENT, {"classification", "bbox_regression"}),
        (TWO_STAGE, {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}),
    ],
)
def test_training_is_that_of_the_torchvision_model(name: str, losses: set[str]):
    module, logged = detector(name, min_size=(48, 64, 80)), Logged()
    model = copy.deepcopy(module.network.model)
    trainer(max_epochs=1, callbacks=[Seeded(), logged]).fit(module, detection_loader())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    model.train()
    for index, (images, targets) in enumerate(detection_loader()):
        torch.manual_seed(index)
        found = model(images, targets)
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
        assert logged.steps[index] == {
            **{f"train/{key}": pytest.approx(value.item()) for key, value in found.items()},
            "train/loss": pytest.approx(sum(found.values()).item()),
        }
        assert found.keys() == losses
    assert difference(module.network.model, model) == 0.0
    assert difference(module.network, small_detector(name)) > 0.0


def test_average_precision_is_logged_in_original_pixels():
    module = detector(score_thresh=0.009, detections_per_img=20)
    images, _ = batch()
    with torch.no_grad():
        expected = module.network.model.eval()(images)
    # what torchvision's model finds is declared to be the truth, but for every third object
    truth = [{key: item[key][torch.arange(20) % 3 > 0] for key in ("boxes", "labels")} for item in expected]
    precision = MeanAveragePrecision(backend="faster_coco_eval")
    precision.update(expected, truth)
    wanted = {name: pytest.approx(precision.compute()[name].item()) for name in ("map", "map_50")}
    loader = DataLoader([0], collate_fn=lambda _: (images, truth))
    [found] = trainer().validate(module, loader, verbose=False)
    assert found == {f"val/{name}": value for name, value in wanted.items()}
    assert 0.4 < found["val/map"] < 1.0
    [tested] = trainer().test(module, loader, verbose=False)
    assert tested == {f"test/{name}": value for name, value in wanted.items()}


def test_predictions_are_torchvisions_with_and_without_targets():
    module = detector(score_thresh=0.009)
    images, targets = batch()
    with torch.no_grad():
        expected = module.network.model.eval()(images)
    for given in ((images, targets), images):
        [found] = trainer().predict(module, DataLoader([0], collate_fn=lambda _, given=given: given))
        for ours, theirs in zip(found, expected, strict=True):
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with pytest.raises(RuntimeError, match=r"call `.eval\(\)`"):
        module.train().detect(images)


def test_a_checkpoint_makes_the_detector_again(tmp_path):
    module = detector(scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1), interval="step")
    fit = trainer(max_epochs=1)
    fit.fit(module, detection_loader())
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.002 * 0.01)
    fit.save_checkpoint(tmp_path / "detector.ckpt")
    again = Detector.load_from_checkpoint(tmp_path / "detector.ckpt", map_location="cpu", weights_only=True)
    assert difference(again.network, module.network) == 0.0
    assert again.network.model.transform.min_size == (64,)


def test_a_detector_around_the_users_own_model():
    network = small_detector(STUDENT)
    module = Detector(network.model)
    assert module.network.model is network.model
    with pytest.raises(TypeError, match=r"num_classes, min_size cannot be chosen for a RetinaNet"):
        Detector(network.model, 4, min_size=64)
    with pytest.raises(TypeError, match="num_classes is needed"):
        Detector(STUDENT)
    with pytest.raises(ValueError, match="interval"):
        Detector(network.model, interval="day")


def test_frozen_stages_are_not_optimized():
    module = detector(trainable_layers=3)
    optimizer = module.configure_optimizers()
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    body = module.network.model.backbone.body
    assert id(body.conv1.weight) not in optimized
    assert id(body.layer2[0].conv1.weight) in optimized


# distilled


def through_door(door: int, student: Detector, teacher: Any, method: Any, loader: Any = None) -> None:
    loader = loader or detection_loader()
    if door == 1:
        module = DistillationModule(student, teacher, method)
        trainer(max_epochs=1, callbacks=[Seeded()]).fit(module, loader)
    else:
        trainer(max_epochs=1, callbacks=[Distillation(teacher, method), Seeded()]).fit(student, loader)


def by_hand(student: Any, teacher: Any) -> None:
    """PKD between two torchvision RetinaNets, without the library."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.002, momentum=0.9)
    student.train()
    teacher.eval()
    for index, (images, targets) in enumerate(detection_loader()):
        torch.manual_seed(index)
        transformed, targets = student.transform(images, targets)
        features = list(student.backbone(transformed.tensors).values())
        predictions = student.head(features)
        anchors = student.anchor_generator(transformed, features)
        losses = student.compute_loss(targets, predictions, anchors)
        with torch.no_grad():
            teacher_features = list(teacher.backbone(transformed.tensors).values())
        loss = sum(losses.values()) + 2.0 * pkd_loss(features, teacher_features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("whole", [True, False], ids=["a Detector", "its network"])
@pytest.mark.parametrize("door", [1, 2])
def test_student_equals_a_hand_written_loop(door: int, whole: bool):
    student, teacher = detector(min_size=(48, 64, 80)), detector(TEACHER, seed=1, min_size=(60, 70))
    expected = copy.deepcopy(student.network.model)
    by_hand(expected, copy.deepcopy(teacher.network.model))
    start, modes = copy.deepcopy(teacher.network), [layer.training for layer in teacher.modules()]
    through_door(door, student, teacher if whole else teacher.network, PKD(layers="auto", weight=2.0))
    assert difference(student.network.model, expected) == 0.0
    assert difference(student.network, detector().network) > 0.0
    assert difference(teacher.network, start) == 0.0, "the teacher changed"
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())
    assert [layer.training for layer in teacher.modules()] == modes


@pytest.mark.parametrize(
    ("name", "teacher", "method"),
    [
        (TWO_STAGE, TEACHER, lambda: CWD(layers={"pyramid.1": "pyramid.0", "pyramid.2": "pyramid.1"})),
        ("retinanet_mobilenet_v2_fpn", TWO_STAGE, lambda: FitNet(layers=taps(levels=4))),
        ("fcos_resnet18_fpn", "retinanet_resnet18_fpn_v2", lambda: FitNet(layers="auto")),
        ("fcos_resnet18_fpn", TWO_STAGE, lambda: FGD.for_detector("fcos", layers=taps(levels=3))),
        (STUDENT, TEACHER, CrossKD),
        (STUDENT, TEACHER, FRS),
        (TWO_STAGE, TWO_STAGE, DKDDet),
    ],
)
def test_detectors_of_different_kinds_teach_each_other(name: str, teacher: str, method: Any):
    student, logged = detector(name), Logged()
    module = DistillationModule(student, detector(teacher, seed=1), method())
    trainer(max_epochs=1, callbacks=[logged]).fit(module, detection_loader())
    assert all(torch.tensor(list(step.values())).isfinite().all() for step in logged.steps)
    assert all(step[f"kd/{module.distillation.engine.names[0]}"] > 0 for step in logged.steps)


@pytest.mark.slow
def test_memory_does_not_grow_over_500_steps():
    student, teacher = detector(pyramid_channels=8), detector(TEACHER, seed=1, pyramid_channels=8)

    class Memory(L.Callback):
        """Resident memory, and the number of live tensors, after warm-up and at the end."""

        def __init__(self) -> None:
            self.seen: dict[int, tuple[float, int]] = {}

        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step in (100, 500):
                gc.collect()
                with open(f"/proc/{os.getpid()}/statm", encoding="ascii") as file:
                    resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
                tensors = sum(1 for value in gc.get_objects() if issubclass(type(value), torch.Tensor))
                self.seen[trainer.global_step] = resident, tensors

    memory = Memory()
    fit = trainer(max_epochs=250, callbacks=[Distillation(teacher, PKD(layers="auto")), memory])
    fit.fit(student, detection_loader())
    (early, early_tensors), (late, late_tensors) = memory.seen[100], memory.seen[500]
    assert late_tensors <= early_tensors + 5
    assert late < early + 30, f"{early:.0f} MiB after 100 steps, {late:.0f} MiB after 500"
    assert all(parameter.grad is None for parameter in teacher.parameters())
