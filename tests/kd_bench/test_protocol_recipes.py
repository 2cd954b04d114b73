"""The shipped recipes against the rules that their sources state."""

from __future__ import annotations

import math

import pytest
import torch
from kd_bench.models import create_model
from kd_bench.protocol import load_protocol
from kd_bench.recipe import AdamW, Cosine, Recipe
from kd_bench.rows import create_method
from kd_bench.training.optimizers import build_optimizer, build_schedule
from torch import nn

from lightning_kd.engine.exchange import Progress
from lightning_kd.recipes import recipe

REPDISTILLER = ["KD", "FitNet", "AttentionTransfer", "SP", "CC", "VID", "RKD", "PKT", "NST", "FactorTransfer", "CRD"]
LATER = ["KDSVD", "OFD", "DKD", "CTKD", "DIST", "LSKD", "MLKD"]
PUBLISHED = {"mobilenet_v2_half": "MobileNetV2", "shufflenet_v1": "ShuffleV1", "shufflenet_v2": "ShuffleV2"}


def _rates(recipe: Recipe) -> list[float]:
    optimizer = build_optimizer(recipe, [nn.Parameter(torch.zeros(1))])
    configured = build_schedule(recipe, optimizer, total_steps=10**6)
    assert configured is not None
    assert configured["interval"] == "epoch"
    rates = []
    for _ in range(recipe.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        configured["scheduler"].step()
    return rates


@pytest.mark.parametrize(
    ("student", "base"), [("resnet20", 0.05), ("mobilenet_v2_half", 0.01), ("shufflenet_v1", 0.01), ("wrn_40_2", 0.05)]
)
def test_learning_rate_of_cifar100_at_every_epoch(student: str, base: float) -> None:
    found = _rates(load_protocol("cifar100-v1").recipe_for(student))
    # the reference loops from 1 and divides by ten for every milestone that the epoch has passed
    expected = [base * 0.1 ** sum(epoch > stage for stage in (150, 180, 210)) for epoch in range(1, 241)]
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[149] == pytest.approx(base)
    assert found[150] == pytest.approx(base / 10)


def test_learning_rate_of_imagenet_at_every_epoch() -> None:
    found = _rates(load_protocol("imagenet-v1").recipe_for("mobilenet_v1"))
    assert found == pytest.approx([0.2 * 0.1 ** sum(epoch >= stage for stage in (30, 60, 90)) for epoch in range(100)])


def test_cosine_with_warmup_is_that_of_timm() -> None:
    timm = pytest.importorskip("timm.scheduler")
    schedule = Cosine(name="cosine", warmup=4, warmup_lr=1e-6, minimum=1e-5)
    made = Recipe(epochs=20, batch_size=1, optimizer=AdamW(name="adamw", lr=5e-4), schedule=schedule)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=5e-4)
    theirs = timm.CosineLRScheduler(optimizer, t_initial=20, lr_min=1e-5, warmup_t=4, warmup_lr_init=1e-6)
    expected = []
    for epoch in range(20):
        theirs.step(epoch)
        expected.append(optimizer.param_groups[0]["lr"])
    assert _rates(made) == pytest.approx(expected, rel=1e-9)


def test_weight_decay_can_leave_vectors_alone() -> None:
    settings = AdamW(name="adamw", lr=1e-3, weight_decay=0.05, decay_vectors=False)
    made = Recipe(epochs=1, batch_size=1, optimizer=settings, schedule=Cosine(name="cosine"))
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(made, [matrix, bias])
    matrix.grad, bias.grad = torch.zeros_like(matrix), torch.zeros_like(bias)
    optimizer.step()
    assert torch.allclose(matrix, torch.full((2, 2), 1 - 1e-3 * 0.05))
    assert torch.equal(bias, torch.ones(2))


@pytest.mark.parametrize("name", ["DKD", "ReviewKD"])
def test_warmup_counts_the_first_epoch_as_one(name: str) -> None:
    row = load_protocol("cifar100-v1").methods[name]
    method = create_method(row)
    assert method is not None
    full = float(row.parameters["weight"])  # type: ignore[arg-type]
    for epoch in range(240):
        weight = method.weight(Progress(epoch=epoch))  # type: ignore[operator]
        assert math.isclose(weight, full * min((epoch + 1) / 20, 1.0))


@pytest.mark.parametrize("name", [*REPDISTILLER, *LATER])
def test_weights_of_cifar100_are_the_published_ones(name: str) -> None:
    row = load_protocol("cifar100-v1").methods[name]
    assert row.class_path is not None
    published = recipe(row.class_path, protocol="cifar100")
    (term,) = published.terms
    assert row.task_weight == published.task_weight
    assert row.parameters["weight"] == term.weight
    assert row.warmup == (term.ramp.epochs if term.ramp else 0)
    for argument, value in term.arguments.items():
        found = row.parameters[argument]
        assert tuple(found) == value if isinstance(found, list) else found == value


@pytest.mark.parametrize("name", ["DKD", "ReviewKD"])
def test_weights_of_each_pair_are_the_published_ones(name: str) -> None:
    protocol = load_protocol("cifar100-v1-tuned")
    for pair, models in protocol.pairs.items():
        student = PUBLISHED.get(models.student, models.student)
        teacher = "ResNet50" if models.teacher == "cifar_resnet50" else models.teacher
        (term,) = recipe(name, protocol="cifar100", pair=f"{teacher}->{student}").terms
        found = protocol.methods[name].on(pair).parameters
        assert found["weight"] == term.weight, pair
        assert all(found[argument] == value for argument, value in term.arguments.items()), pair


@pytest.mark.parametrize("protocol_id", ["cifar100-v1", "cifar100-v1-tuned", "cifar100-vit-v1", "imagenet-v1"])
def test_every_pair_can_be_created(protocol_id: str) -> None:
    protocol = load_protocol(protocol_id)
    classes = 1000 if protocol_id.startswith("imagenet") else 100
    with torch.device("meta"):
        for name in {name for pair in protocol.pairs.values() for name in (pair.student, pair.teacher)}:
            create_model(name, num_classes=classes)


def test_the_tuned_track_shares_all_but_the_methods() -> None:
    general, tuned = load_protocol("cifar100-v1"), load_protocol("cifar100-v1-tuned")
    apart = {"id", "title", "description", "track", "core", "methods"}
    assert tuned.model_dump(exclude=apart) == general.model_dump(exclude=apart)
    assert len(general.pairs) == 17
