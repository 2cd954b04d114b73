import sys

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import Logger

from lightning_kd import Distillation, DistillationModule
from lightning_kd.callbacks import CalibrationMonitor
from lightning_kd.callbacks._calibration_metric import CalibrationMetric, adaptive_calibration_error, reliability
from lightning_kd.callbacks._observation import class_indices
from lightning_kd.methods.logits.kd import KD

NAMES = {"ece", "adaptive_ece", "nll", "brier"}


def reference(logits, target, bins=15):
    """Every score from its definition, in numpy."""
    logits, target = logits.double().numpy(), target.numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    confidence, correct = p.max(1), (p.argmax(1) == target).astype(float)
    one_hot = np.eye(p.shape[1])[target]
    ece = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            ece += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    order = np.argsort(confidence)
    parts = np.array_split(order, bins)
    adaptive = sum(
        len(part) / len(order) * abs(correct[part].mean() - confidence[part].mean()) for part in parts if len(part)
    )
    return {
        "ece": ece,
        "adaptive_ece": adaptive,
        "nll": -np.log(p[np.arange(len(target)), target]).mean(),
        "brier": ((p - one_hot) ** 2).sum(1).mean(),
    }


def draw(rows=200, classes=5):
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(rows, classes, generator=generator), torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("rows", [3, 14, 200])
def test_metric_equals_the_definitions(rows):
    logits, target = draw(rows)
    metric = CalibrationMetric()
    for part, labels in zip(logits.split(7), target.split(7), strict=True):
        metric.update(part, labels)
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values == pytest.approx(reference(logits, target), rel=1e-4)


def test_adaptive_bins_hold_equal_mass():
    confidence = torch.tensor([0.1, 0.2, 0.9, 0.8])
    correct = torch.tensor([0, 0, 1, 1])
    # bins {.1, .2} and {.8, .9}: gaps .15 and .15
    assert adaptive_calibration_error(confidence, correct, 2).item() == pytest.approx(0.15)


def test_reliability_bins():
    mean, accuracy, share = reliability(torch.tensor([0.05, 0.5, 0.45, 1.0]), torch.tensor([0, 1, 0, 1]), 2)
    assert mean.tolist() == pytest.approx([1 / 3, 1.0])
    assert accuracy.tolist() == pytest.approx([1 / 3, 1.0])
    assert share.tolist() == [0.75, 0.25]


def test_labels_are_flattened_and_ignored_ones_left_out():
    logits = torch.arange(12.0).view(2, 3, 2).half()
    rows, labels = class_indices(logits, torch.tensor([[0, 1, -100], [1, 0, 1]]))
    assert labels.tolist() == [0, 1, 1, 0, 1]
    assert rows.dtype == torch.float32
    assert rows.shape == (5, 2)
    _, soft = class_indices(logits[0], torch.tensor([[0.1, 0.9], [1.0, 0.0], [0.3, 0.7]], dtype=torch.half))
    assert soft.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="target="):
        class_indices(logits, None)


@pytest.mark.parametrize("door", ["plain", "callback", "wrapper"])
def test_logs_the_student_of_the_epoch(kit, door):
    student, monitor = kit.Student(), CalibrationMonitor()
    callbacks, module = [monitor], student
    if door == "callback":
        callbacks.append(Distillation(kit.teacher(), KD()))
    if door == "wrapper":
        module = DistillationModule(student, kit.teacher(), KD())
    trainer = kit.trainer(*callbacks, max_epochs=2)
    trainer.fit(module, kit.loader(), kit.loader(seed=1))
    inputs, target = kit.data(seed=1)
    with torch.no_grad():
        expected = reference(student.model(inputs), target)
    logged = {name.removeprefix("calibration/"): value.item() for name, value in trainer.callback_metrics.items()}
    assert {name: logged[name] for name in NAMES} == pytest.approx(expected, rel=1e-4)
    assert kit.hooks(student) == 0


def test_validate_alone(kit):
    student = kit.Student()
    trainer = kit.trainer(CalibrationMonitor(prefix="cal"))
    (values,) = trainer.validate(student, kit.loader(), verbose=False)
    assert {f"cal/{name}" for name in NAMES} <= set(values)
    assert kit.hooks(student) == 0


def test_watches_one_dataloader(kit):
    student = kit.Student()
    loaders = [kit.loader(), kit.loader(seed=1)]
    trainer = kit.trainer(CalibrationMonitor(dataloader_idx=1))
    trainer.validate(student, loaders, verbose=False)
    inputs, target = kit.data(seed=1)
    with torch.no_grad():
        assert trainer.callback_metrics["calibration/nll"].item() == pytest.approx(
            reference(student.model(inputs), target)["nll"], rel=1e-4
        )


class Figures(Logger):
    """A logger that takes figures the way Weights & Biases does."""

    def __init__(self):
        super().__init__()
        self.images = []

    name = version = "figures"

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, *args, **kwargs):
        pass

    def log_image(self, key, images, step=None):
        self.images.append((key, images, step))


def test_draws_a_diagram_where_the_logger_takes_one(kit):
    logger = Figures()
    trainer = kit.trainer(CalibrationMonitor(diagram_every_n_epochs=2), logger=logger, max_epochs=3)
    trainer.fit(kit.Student(), kit.loader(), kit.loader(seed=1))
    assert [(key, step) for key, _, step in logger.images] == [
        ("calibration/reliability", 5),
        ("calibration/reliability", 15),
    ]
    axes = logger.images[0][1][0].axes[0]
    assert axes.get_xlabel() == "confidence"
    assert len(axes.patches) == 15


def test_without_matplotlib_it_warns_once(kit, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    logger = Figures()
    with pytest.warns(UserWarning, match="matplotlib is not installed") as caught:
        kit.trainer(CalibrationMonitor(), logger=logger, max_epochs=3).fit(kit.Student(), kit.loader(), kit.loader())
    assert sum("matplotlib" in str(warning.message) for warning in caught) == 1
    assert logger.images == []


def test_a_network_that_is_not_called_is_an_error(kit):
    class Blind(kit.Student):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            pass

    student = Blind()
    with pytest.raises(RuntimeError, match="saw no call"):
        kit.trainer(CalibrationMonitor()).fit(student, kit.loader(), kit.loader())
    assert kit.hooks(student) == 0


def test_refusals():
    with pytest.raises(ValueError, match="bins"):
        CalibrationMonitor(bins=0)
