from __future__ import annotations

import pytest
import torch
from kd_bench.data.base import open_data
from kd_bench.models import create_model
from kd_bench.protocol import Protocol
from kd_bench.recipe import AdamW, Constant, MultiStep, Recipe
from kd_bench.training.fit import fit
from kd_bench.training.optimizers import build_optimizer, build_schedule
from kd_bench.training.recorder import DivergedError
from torch import nn


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
