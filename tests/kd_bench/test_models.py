from __future__ import annotations

import sys

import pytest
import torch
from kd_bench.errors import UserError
from kd_bench.models import create_model, list_models
from torch import nn


@pytest.mark.parametrize("name", ["mini_resnet14", "mini_cnn4"])
def test_the_mini_networks_have_three_stages_and_a_classifier(name: str) -> None:
    network = create_model(name, num_classes=7, in_channels=1)
    shapes = {}
    for stage in ("layer1", "layer2", "layer3"):
        network.get_submodule(stage).register_forward_hook(
            lambda module, args, output, stage=stage: shapes.update({stage: tuple(output.shape[2:])})
        )
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert shapes == {"layer1": (8, 8), "layer2": (4, 4), "layer3": (2, 2)}
    assert isinstance(network.fc, nn.Linear)
    assert name in list_models()


def test_timm_models_behind_their_prefix() -> None:
    pytest.importorskip("timm")
    network = create_model("timm:resnet10t", num_classes=5, in_channels=1).eval()
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 5)


def test_torchvision_models_behind_their_prefix() -> None:
    network = create_model("torchvision:mobilenet_v3_small", num_classes=5).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mini_cnn", "mini_cnn4"),
        ("torchvision:resnet19", "resnet18"),
        ("tim:resnet18", "timm"),
    ],
)
def test_an_unknown_name_lists_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"Did you mean '{nearest}'"):
        create_model(name, num_classes=5)


def test_unknown_timm_models_list_the_nearest() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"unknown timm model 'resnet1x'.*resnet18"):
        create_model("timm:resnet1x", num_classes=5)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        create_model("timm:resnet18", num_classes=5)


def test_options_and_channels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"options \['depth'\]"):
        create_model("mini_cnn4", num_classes=5, depth=3)
    with pytest.raises(UserError, match="3 channels"):
        create_model("torchvision:resnet18", num_classes=5, in_channels=1)
