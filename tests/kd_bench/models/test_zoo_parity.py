"""The networks give what those behind the public checkpoints give: names, shapes, features and logits, in float64.

``cifar_models.json`` and ``cifar_models_more.json`` hold what the reference implementation gives under weights that
:func:`reproducible_weights` makes again; the second file adds outputs of networks for which the first has shapes only
(mdistiller at commit a08d46f was run for it).
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from kd_bench.models import create_model
from torch import Tensor, nn

DATA = Path(__file__).parents[2] / "data"


def _golden() -> dict[str, dict[str, Any]]:
    golden: dict[str, dict[str, Any]] = {}
    for file in ("cifar_models.json", "cifar_models_more.json"):
        for name, entry in json.loads((DATA / file).read_text()).items():
            golden.setdefault(name, {}).update(entry)
    return golden


GOLDEN = _golden()
# The reference lists the stem among the features, and vgg's first block in its place.
STEMS = {"resnet": "relu", "ResNet": "relu", "Shuffle": "relu", "wrn": "conv1", "MobileNetV2": "conv1", "vgg": "relu0"}


def classes(name: str) -> int:
    return 1000 if name.startswith("imagenet") else 100


def reproducible_weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    return {key: _reproducible(key, shape) for key, shape in shapes.items()}


def _reproducible(key: str, shape: torch.Size) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())), dtype=torch.float64)
    if key.endswith("running_var"):
        x = x.abs() + 0.5
    elif key.endswith(("running_mean", "bias")):
        x = 0.1 * x
    elif x.dim() == 1:
        x = 1 + 0.1 * x
    else:
        x = x * (2 / x[0].numel()) ** 0.5
    return x.float()


def build(name: str) -> nn.Module:
    network = create_model(name, num_classes=classes(name))
    network.load_state_dict(reproducible_weights({key: value.shape for key, value in network.state_dict().items()}))
    return network.double().eval()


def taps(name: str, network: nn.Module) -> list[str]:
    stem = next((layer for prefix, layer in STEMS.items() if name.startswith(prefix)), None)
    return [*([stem] if stem else []), *network.distillation_stages]


def classifier(network: nn.Module) -> nn.Linear:
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    return last


def run(name: str, network: nn.Module) -> tuple[list[Tensor], Tensor, Tensor]:
    """Tapped features, pooled features and logits of the reproducible images."""
    size = 224 if classes(name) == 1000 else 32
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).double()
    seen: dict[str, Tensor] = {}
    for tap in taps(name, network):
        network.get_submodule(tap).register_forward_hook(lambda _, __, output, tap=tap: seen.update({tap: output}))
    classifier(network).register_forward_hook(lambda _, args, __: seen.update(pooled=args[0]))
    with torch.no_grad():
        logits = network(images)
    pooled = seen.pop("pooled")
    return [seen[tap] for tap in taps(name, network)], pooled, logits


def test_the_golden_data_covers_outputs_of_every_network() -> None:
    assert len(GOLDEN) == 24
    assert all({"params", "state_dict", "logits", "logits_norm"} <= entry.keys() for entry in GOLDEN.values())


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_have_the_names_and_shapes_of_the_public_checkpoints(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, num_classes=classes(name))
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == GOLDEN[name]["state_dict"]
    assert sum(parameter.numel() for parameter in network.parameters()) == GOLDEN[name]["params"]


@pytest.mark.parametrize("name", GOLDEN)
def test_features_and_logits_equal_the_reference(name: str) -> None:
    expected = GOLDEN[name]
    features, pooled, logits = run(name, build(name))
    assert [list(feature.shape) for feature in features] == expected["feats"]
    assert list(pooled.shape) == expected["pooled"]
    assert [feature.norm().item() for feature in features] == pytest.approx(expected["feat_norms"], rel=1e-9)
    assert pooled.norm().item() == pytest.approx(expected["pooled_norm"], rel=1e-9)
    assert logits.norm().item() == pytest.approx(expected["logits_norm"], rel=1e-9)
    first = torch.tensor(expected["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, :12], first, rtol=1e-8, atol=1e-9 * expected["logits_norm"])
