"""The loops over generations."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from support import Innocent, data, difference, loader, make_student, trainer
from torch.utils.data import DataLoader, Subset

from lightning_kd import Distillation
from lightning_kd.methods.logits.kd import KD
from lightning_kd.methods.self_distillation import (
    BornAgain,
    GuidedSelfDistillation,
    Validation,
    optimal_label_weight,
    self_distil,
    train_born_again,
)


class Steps(L.Callback):
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(trainer.global_step)


class Fits:
    """Counts the trainings and keeps what each was given."""

    def __init__(self) -> None:
        self.callbacks: list[list[L.Callback]] = []

    def __call__(self, student: L.LightningModule, callbacks: list[L.Callback]) -> None:
        self.callbacks.append(callbacks)
        trainer(max_epochs=1, callbacks=[*callbacks, Steps()]).fit(student, loader())

    @property
    def weights(self) -> list[float]:
        return [callbacks[0].engine.methods[0].alpha for callbacks in self.callbacks]


def make(generation: int) -> Innocent:
    torch.manual_seed(generation)
    return Innocent()


def validation() -> Validation:
    return Validation.from_batches(DataLoader(Subset(data(60), range(40, 60)), batch_size=8))


def alone(student: Innocent, *callbacks: L.Callback) -> Innocent:
    trainer(max_epochs=1, callbacks=[*callbacks, Steps()]).fit(student, loader())
    return student


def test_a_fixed_weight() -> None:
    fit = Fits()
    generations = self_distil(make, fit, 3, alpha=0.35)
    assert fit.weights == [1.0, 0.35, 0.35]
    assert [(item.number, item.alpha) for item in generations] == [(1, 1.0), (2, 0.35), (3, 0.35)]
    first = alone(make(1))
    # the first generation is ordinary training; the loss is the same number, summed up in another order
    assert difference(generations[0].student, first) < 1e-5
    second = alone(make(2), Distillation(generations[0].student, GuidedSelfDistillation(0.35), task_weight=0.0))
    assert difference(generations[1].student, second) == 0.0
    assert difference(generations[1].student, generations[2].student) > 1e-3


def test_the_weight_is_estimated_for_each_generation() -> None:
    fit, held_out = Fits(), validation()
    generations = self_distil(make, fit, 3, validation=held_out, objective="mse")
    assert len(fit.weights) == 5
    assert [fit.weights[0], fit.weights[1], fit.weights[3]] == [1.0, 0.0, 0.0]
    method = GuidedSelfDistillation(0.0, "mse")
    distilled = alone(make(2), Distillation(generations[0].student, method, task_weight=0.0))
    expected = optimal_label_weight(
        held_out.predict(generations[0].student), held_out.predict(distilled), held_out.target
    )
    assert generations[1].alpha == fit.weights[2] == expected
    assert generations[2].alpha == fit.weights[4]


def test_validation_predicts_in_eval_mode_and_restores_the_modes() -> None:
    student, held_out = make_student(), validation()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    student.model.layer1.eval()
    student.model.fc.weight.requires_grad_(False)
    probabilities = held_out.predict(student)
    assert probabilities.shape == (20, 5)
    assert torch.equal(held_out.target, torch.stack([data(60)[i][1] for i in range(40, 60)]))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(20, dtype=torch.float64))
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert student.model.fc.training
    assert not student.model.layer1.training
    assert [name for name, p in student.named_parameters() if not p.requires_grad] == ["model.fc.weight"]
    assert torch.equal(probabilities, held_out.predict(student))


def test_born_again() -> None:
    fit = Fits()
    generations = train_born_again(make, fit, 3, temperature=2.0)
    assert fit.callbacks[0] == []
    assert difference(generations[0].student, alone(make(1))) == 0.0
    second = alone(make(2), Distillation(generations[0].student, KD(temperature=2.0)))
    assert difference(generations[1].student, second) == 0.0
    third = alone(make(3), Distillation(second, BornAgain(2.0)))
    assert difference(generations[2].student, third) == 0.0


def test_settings_reach_the_distillation() -> None:
    fit = Fits()
    train_born_again(make, fit, 2, task_weight=0.25, network="model")
    settings = fit.callbacks[1][0].engine.settings
    assert (settings.task_weight, settings.network) == (0.25, "model")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        self_distil(make, Fits(), 0, alpha=0.5)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        train_born_again(make, Fits(), 0)
    with pytest.raises(ValueError, match="held-out samples"):
        self_distil(make, Fits(), 2)
    student = make(1)
    with pytest.raises(ValueError, match="make_student must make a new student"):
        self_distil(lambda generation: student, Fits(), 2, alpha=0.5)
    assert len(self_distil(make, Fits(), 1)) == 1
