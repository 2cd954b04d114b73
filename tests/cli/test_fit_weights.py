"""The weights of a teacher, from whatever file they are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.fit_weights import load_weights


class TeacherNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(6, 8), nn.Linear(8, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def whole_model(network: torch.nn.Module) -> Any:
    """A Lightning checkpoint of a module that holds the network, with a metric beside it."""
    state = {f"net.{key}": value for key, value in network.state_dict().items()}
    return {"state_dict": {**state, "metric.total": torch.zeros(())}, "epoch": 3, "hyper_parameters": {"width": 8}}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("raw.pt", lambda network, path: torch.save(network.state_dict(), path)),
        ("lightning.ckpt", lambda network, path: torch.save(whole_model(network), path)),
        ("research.pth", lambda network, path: torch.save({"model": network.state_dict(), "epoch": 240}, path)),
        ("ddp.pt", lambda network, path: torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, path)),
        ("model.safetensors", lambda network, path: safetensors.torch.save_file(network.state_dict(), path)),
    ],
)
def test_weights_are_found_in(name: str, write: Callable[[torch.nn.Module, str], None]) -> None:
    network, other = TeacherNetwork(), TeacherNetwork()
    write(network, name)
    load_weights(other, name)
    assert equal(other.state_dict(), network.state_dict())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"body.weight": torch.zeros(8, 7)}, "Missing key"),
        ({"other.weight": torch.zeros(8, 6)}, "not those of TeacherNetwork"),
        ({"epoch": 3}, r"no state dict, but the keys \['epoch'\]"),
        ([torch.zeros(2)], "no state dict, but list"),
        (L.Trainer, "never pickled objects"),
        (b"no checkpoint at all", "cannot read"),
    ],
    ids=["incomplete", "another network", "no tensors", "a list", "an object", "garbage"],
)
def test_other_files_are_refused(content: Any, expected: str) -> None:
    network = TeacherNetwork()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    if isinstance(content, bytes):
        Path("file.pt").write_bytes(content)
    else:
        torch.save(content, "file.pt")
    with pytest.raises(CommandError, match=expected):
        load_weights(network, "file.pt")
    assert equal(network.state_dict(), before)


def test_damaged_safetensors_are_refused() -> None:
    Path("file.safetensors").write_bytes(b"12345678{}")
    with pytest.raises(CommandError, match="cannot read"):
        load_weights(TeacherNetwork(), "file.safetensors")
