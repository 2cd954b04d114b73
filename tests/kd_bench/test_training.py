from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kd_bench.data.base import open_data
from kd_bench.data.digits import Digits
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.models import create_model
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.recipe import AdamW, Constant, MultiStep, Recipe
from kd_bench.training.fit import fit
from kd_bench.training.optimizers import build_optimizer, build_schedule
from kd_bench.training.recorder import DivergedError
from kd_bench.worker import run_item
from torch import nn
from torch.utils.data import DataLoader


def _rates(recipe: Recipe, steps: int) -> list[float]:
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    configured = build_schedule(recipe, optimizer, steps)
    assert configured is not None
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        configured["scheduler"].step()
    return rates


def test_one_cycle_peaks_after_the_warmup_and_ends_near_zero(tiny: Protocol) -> None:
    rates = _rates(tiny.student_recipe, 100)
    assert max(rates) == pytest.approx(tiny.student_recipe.optimizer.lr)
    assert 18 <= rates.index(max(rates)) <= 21
    assert rates[-1] < 1e-4


def test_multi_step_falls_at_its_milestones(tiny: Protocol) -> None:
    schedule = MultiStep(name="multi-step", milestones=(2, 4), gamma=0.1)
    recipe = tiny.student_recipe.model_copy(update={"schedule": schedule})
    assert _rates(recipe, 6) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_multi_step_may_rise_first(tiny: Protocol) -> None:
    schedule = MultiStep(name="multi-step", milestones=(2, 3), warmup_steps=5)
    rates = _rates(tiny.student_recipe.model_copy(update={"schedule": schedule, "epochs": 4}), steps=16)
    peak = tiny.student_recipe.optimizer.lr
    rise = [0.001 + 0.999 * step / 5 for step in range(5)]
    expected = [*rise, 1, 1, 1, *[0.1] * 4, *[0.01] * 4]
    assert rates == pytest.approx([peak * factor for factor in expected])


def test_adamw_and_a_constant_rate(tiny: Protocol) -> None:
    recipe = tiny.student_recipe.model_copy(
        update={"optimizer": AdamW(name="adamw", lr=0.01, weight_decay=0.2), "schedule": Constant(name="constant")}
    )
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["weight_decay"] == 0.2
    assert build_schedule(recipe, optimizer, 10) is None


def test_the_recorder_tells_every_epoch(tiny: Protocol) -> None:
    data = open_data(tiny.data, tiny.student_recipe, 0)
    told: list[tuple[int, int]] = []
    torch.manual_seed(0)
    network = create_model("mini_cnn4", num_classes=10, in_channels=1)
    fitted = fit(
        network,
        tiny.student_recipe,
        data,
        accelerator="cpu",
        on_epoch=lambda epoch, epochs: told.append((epoch, epochs)),
    )
    assert told == [(1, 2), (2, 2)]
    assert fitted.device == "cpu"
    assert fitted.seconds > 0
    images, labels = next(iter(data.eval_dataloader("validation")))
    with torch.no_grad():
        right = (network.eval()(images).argmax(-1) == labels).sum().item()
    assert fitted.recorder.curve.validation_accuracy[-1] == right / len(labels)


def test_a_diverging_training_is_an_error(tiny: Protocol) -> None:
    optimizer = tiny.student_recipe.optimizer.model_copy(update={"lr": 1e30})
    recipe = tiny.student_recipe.model_copy(update={"optimizer": optimizer})
    network = create_model("mini_cnn4", num_classes=10, in_channels=1)
    with pytest.raises(DivergedError, match="training loss was"):
        fit(network, recipe, open_data(tiny.data, recipe, 0), accelerator="cpu")


class Final(Digits):
    """The digits without a validation split."""

    has_validation = False

    def eval_dataloader(self, split: str) -> DataLoader[Any]:
        if split == "validation":
            raise UserError("there is no validation split")
        return super().eval_dataloader(split)


def test_without_a_validation_split_there_is_no_validation_accuracy(tiny: Protocol, tmp_path: Path) -> None:
    data = tiny.data.model_copy(update={"class_path": f"{__name__}.Final"})
    item = Item(tiny.model_copy(update={"data": data}), "resnet14-cnn4", "plain", 0, tmp_path)
    with_split = run_item(Item(tiny, "resnet14-cnn4", "plain", 0, tmp_path / "other")).run
    run = run_item(item).run
    assert run.curve.validation_accuracy is None
    assert run.curve.train_loss == with_split.curve.train_loss
    assert (run.last, run.best) == (with_split.last, with_split.best)
    assert "validation" not in (item.curves / "version_0" / "metrics.csv").read_text()


class Mixed(Digits):
    """Each training image is said to show its own class to 90 %, and the next class to 10 %."""

    soft_targets = True

    def train_dataloader(self) -> DataLoader[Any]:
        loader = super().train_dataloader()
        labels = loader.dataset.labels
        loader.dataset.labels = 0.9 * F.one_hot(labels, 10) + 0.1 * F.one_hot((labels + 1) % 10, 10)
        return loader


def test_soft_targets_are_trained_on_and_methods_get_the_labels(tiny: Protocol, tmp_path: Path) -> None:
    def losses(name: str, data: str, **row: object) -> tuple[float, ...]:
        spec = tiny.data.model_copy(update={"class_path": f"{__name__}.{data}"})
        methods = {name: MethodRow.model_validate(row)} if row else tiny.methods
        protocol = tiny.model_copy(update={"data": spec, "methods": methods})
        run = run_item(Item(protocol, "resnet14-cnn4", name, 0, tmp_path / data)).run
        return run.curve.train_loss

    assert losses("plain", "Mixed") != losses("plain", "Final")
    # this one learns from hard labels alone
    row = {"class": "LabelSmoothing", "task_weight": 0.0}
    assert losses("Mine", "Mixed", **row) == losses("Mine", "Final", **row)


def test_soft_targets_and_a_fusion_do_not_go_together(tiny: Protocol, tmp_path: Path) -> None:
    row = MethodRow.model_validate({"class": "KD", "fusion": {"class": "Fixed"}})
    data = tiny.data.model_copy(update={"class_path": f"{__name__}.Mixed"})
    item = Item(tiny.model_copy(update={"data": data, "methods": {"Mine": row}}), "resnet14-cnn4", "Mine", 0, tmp_path)
    with pytest.raises(UserError, match="Mine weighs the loss sample by sample"):
        item.check()
