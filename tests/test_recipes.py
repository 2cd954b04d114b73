"""Published weights: complete, buildable, and those of the sources."""

from __future__ import annotations

import inspect
import io
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import nn

from lightning_kd import Distillation, Progress
from lightning_kd.methods import DKD, KD, ND, DistillationMethod, discover
from lightning_kd.recipes import Ramp, Recipe, recipe, recipes
from lightning_kd.schedules import value_at

EVERY = [*recipes("cifar100"), *recipes("imagenet")]
PAIRS = [
    "wrn_40_2->wrn_16_2",
    "wrn_40_2->wrn_40_1",
    "resnet56->resnet20",
    "resnet110->resnet32",
    "resnet32x4->resnet8x4",
    "vgg13->vgg8",
    "vgg13->MobileNetV2",
    "ResNet50->MobileNetV2",
    "resnet32x4->ShuffleV1",
    "resnet32x4->ShuffleV2",
    "wrn_40_2->ShuffleV1",
]


def label(entry: Recipe) -> str:
    return f"{entry.protocol} {entry.name} {entry.pair or ''}".strip()


@pytest.mark.parametrize("entry", EVERY, ids=label)
def test_every_recipe_builds_its_methods(entry: Recipe) -> None:
    methods, task_weight = entry.build()
    assert [type(method).__name__ for method in methods] == [term.method for term in entry.terms]
    for method, term in zip(methods, entry.terms, strict=True):
        # at its height a weight is the published one
        peak = max(method.weight_at(Progress(epoch=epoch)) for epoch in range(240))
        assert peak == pytest.approx(term.weight, rel=1e-12)
        for name, value in term.arguments.items():
            assert getattr(method, name) == value
    assert max(value_at(task_weight, Progress(epoch=epoch)) for epoch in range(240)) == entry.task_weight
    assert isinstance(Distillation(nn.Linear(2, 2), methods, task_weight=task_weight), Distillation)


@pytest.mark.parametrize("entry", EVERY, ids=label)
def test_every_recipe_is_found_and_names_its_source(entry: Recipe) -> None:
    assert recipe(entry.name, entry.protocol, entry.pair) is entry
    repository = entry.source.split(",")[0].split()
    assert len(repository) == 2
    assert "/" in repository[0] or repository[0] == "torchdistill"
    assert entry.task_weight >= 0


def test_no_recipe_is_given_twice() -> None:
    keys = [(entry.protocol, entry.name.lower(), entry.pair) for entry in EVERY]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("method", "protocol", "weight", "task_weight"),
    [
        ("KD", "cifar100", 0.9, 0.1),
        ("FitNet", "cifar100", 100.0, 1.0),
        ("AttentionTransfer", "cifar100", 1000.0, 1.0),
        ("SP", "cifar100", 3000.0, 1.0),
        ("CC", "cifar100", 0.02, 1.0),
        ("PKT", "cifar100", 30000.0, 1.0),
        ("NST", "cifar100", 50.0, 1.0),
        ("CRD", "cifar100", 0.8, 1.0),
        ("OFD", "cifar100", 1e-3, 1.0),
        ("DIST", "cifar100", 2.0, 1.0),
        ("SimKD", "cifar100", 1.0, 0.0),
        ("CTKD", "cifar100", 0.9, 0.1),
        ("LogitStandardization", "cifar100", 9.0, 0.1),
        ("MLKD", "cifar100", 0.9, 0.1),
        ("KD", "imagenet", 0.5, 0.5),
        ("CTKD", "imagenet", 1.0, 1.0),
        ("LogitStandardization", "imagenet", 9.0, 1.0),
    ],
)
def test_weights(method: str, protocol: Any, weight: float, task_weight: float) -> None:
    found = recipe(method, protocol)
    assert (found.terms[0].weight, found.task_weight) == (weight, task_weight)


@pytest.mark.parametrize(
    ("pair", "beta"), [*zip(PAIRS, [6.0, 6.0, 2.0, 2.0, 8.0, 6.0, 6.0, 8.0, 8.0, 8.0, 8.0], strict=True)]
)
def test_dkd_by_pair_warms_up_from_a_twentieth(pair: str, beta: float) -> None:
    (method,), task_weight = recipe("DKD", pair=pair).build()
    assert isinstance(method, DKD)
    assert (method.alpha, method.beta, method.temperature, task_weight) == (1.0, beta, 4.0, 1.0)
    weights = [method.weight_at(Progress(epoch=epoch)) for epoch in (0, 1, 9, 18, 19, 20, 239)]
    assert weights == pytest.approx([0.05, 0.1, 0.5, 0.95, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(("pair", "beta"), [("ResNet34->ResNet18", 0.5), ("ResNet50->MobileNetV1", 2.0)])
def test_dkd_on_imagenet_has_no_warm_up(pair: str, beta: float) -> None:
    (method,), _ = recipe("DKD", "imagenet", pair).build()
    assert isinstance(method, DKD)
    assert (method.beta, method.temperature, method.weight) == (beta, 1.0, 1.0)


def test_review_kd_by_pair_starts_at_zero_and_its_general_recipe_says_what_is_unknown() -> None:
    (method,), _ = recipe("ReviewKD", pair="resnet32x4->ShuffleV2").build()
    assert [method.weight_at(Progress(epoch=epoch)) for epoch in (0, 10, 20)] == [0.0, 4.0, 8.0]
    general = recipe("ReviewKD", pair="vgg13->vgg8")
    assert general.pair is None
    assert "VGG" in general.note


def test_kd_plus_plus_has_two_terms_of_which_one_warms_up() -> None:
    (kd, nd), task_weight = recipe("KD++", pair="resnet32x4->resnet8x4").build()
    assert isinstance(kd, KD)
    assert isinstance(nd, ND)
    assert task_weight == 1.0
    assert [kd.weight_at(Progress(epoch=epoch)) for epoch in (0, 10, 20)] == [0.0, 1.75, 3.5]
    assert nd.weight_at(Progress(epoch=0)) == 2.0
    (kd, nd), _ = recipe("KD++", "imagenet", "ResNet50->MobileNetV1").build()
    assert [kd.weight_at(Progress(epoch=epoch)) for epoch in (0, 5)] == [0.0, 4.0]
    dkd = recipe("DKD++", pair="wrn_40_2->wrn_40_1").terms[0].arguments
    assert (dkd["alpha"], dkd["beta"]) == (1.0, 6.0)


@pytest.mark.parametrize("name", ["AB", "FSP"])
def test_an_initialisation_stage_separates_the_losses(name: str) -> None:
    entry = recipe(name)
    (method,), task_weight = entry.build()
    full = entry.terms[0].weight
    assert [method.weight_at(Progress(epoch=epoch)) for epoch in (0, 29, 30, 200)] == [full, full, 0.0, 0.0]
    assert [value_at(task_weight, Progress(epoch=epoch)) for epoch in (0, 29, 30, 200)] == [0.0, 0.0, 1.0, 1.0]


def test_a_method_with_stages_can_be_pickled() -> None:
    (method,), _ = recipe("AB").build()
    buffer = io.BytesIO()
    torch.save(method, buffer)
    buffer.seek(0)
    copied = torch.load(buffer, weights_only=False)
    assert copied.weight_at(Progress(epoch=31)) == 0.0


def test_every_build_is_fresh() -> None:
    entry = recipe("DKD")
    (first,), _ = entry.build()
    (second,), _ = entry.build()
    assert first is not second
    assert first.weight is not second.weight


@pytest.mark.parametrize(
    ("asked", "pair", "name"),
    [
        ("AT", "resnet56->resnet20", "AttentionTransfer"),
        ("FT", None, "FactorTransfer"),
        ("kd++", "RESNET56 → ResNet20", "KD++"),
        ("crd+kd", None, "CRD+KD"),
    ],
)
def test_aliases_case_and_arrows(asked: str, pair: str | None, name: str) -> None:
    assert recipe(asked, pair=pair).name == name


def test_a_recipe_cannot_be_changed() -> None:
    entry = recipe("KD")
    with pytest.raises(FrozenInstanceError):
        entry.task_weight = 0.5  # type: ignore[misc]  # that it raises is the point
    with pytest.raises(TypeError):
        entry.terms[0].arguments["temperature"] = 1.0  # type: ignore[index]  # likewise


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        (("BDKD",), LookupError, ["'BDKD'", "cifar100", "Known:"]),
        (("DKDD",), LookupError, ["Did you mean DKD"]),
        (("KD++",), LookupError, ["without a pair", "resnet56->resnet20"]),
        (("OFD", "imagenet", "ResNet34->ResNet18"), LookupError, ["ResNet34->ResNet18", "ResNet50->MobileNetV1"]),
        (("KD", "cifar10"), ValueError, ["'cifar10'", "cifar100, imagenet"]),
    ],
)
def test_unknown_ones_are_refused(arguments: Any, error: type[Exception], parts: list[str]) -> None:
    with pytest.raises(error) as refusal:
        recipe(*arguments)
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("entry", EVERY, ids=label)
def test_arguments_are_those_of_the_class(entry: Recipe) -> None:
    for term in entry.terms:
        method: type[DistillationMethod] = discover()[term.method]
        assert set(term.arguments) <= set(inspect.signature(method).parameters)


def test_ramps_count_epochs_as_their_authors_do() -> None:
    assert [Ramp(4).schedule()(Progress(epoch=epoch)) for epoch in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [Ramp(4, 0).schedule()(Progress(epoch=epoch)) for epoch in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
