from __future__ import annotations

from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_kd.detection.mmdet import convert_checkpoint
from lightning_kd.detection.mmdet.checkpoints import read_checkpoint

STATE = OrderedDict({"head.weight": torch.arange(6.0).reshape(2, 3), "head.steps": torch.tensor(7)})


def same(found: dict[str, Tensor]) -> bool:
    return set(found) == set(STATE) and all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("content", [STATE, {"state_dict": STATE, "meta": {"epoch": 3}}])
def test_state_dicts(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert same(read_checkpoint(tmp_path / "weights.pth"))


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    assert same(read_checkpoint(tmp_path / "weights.safetensors"))


def test_names_from_distributed_training(tmp_path: Path) -> None:
    torch.save({f"module.{name}": value for name, value in STATE.items()}, tmp_path / "weights.pth")
    assert same(read_checkpoint(tmp_path / "weights.pth"))


def test_pickled_objects_need_trust(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "log": Fraction(1, 3)}, tmp_path / "epoch_12.pth")
    with pytest.raises(ValueError, match=r"convert_checkpoint\(.*epoch_12\.safetensors.*trust_checkpoint=True\)"):
        read_checkpoint(tmp_path / "epoch_12.pth")
    assert same(read_checkpoint(tmp_path / "epoch_12.pth", trust_checkpoint=True))


def test_conversion(tmp_path: Path) -> None:
    tied = {**STATE, "again": STATE["head.weight"], "turned": STATE["head.weight"].T}
    torch.save({"state_dict": tied, "log": Fraction(1, 3)}, tmp_path / "epoch_12.pth")
    with pytest.raises(ValueError, match="trust"):
        convert_checkpoint(tmp_path / "epoch_12.pth", tmp_path / "weights.safetensors")
    assert not (tmp_path / "weights.safetensors").exists()
    convert_checkpoint(tmp_path / "epoch_12.pth", tmp_path / "weights.safetensors", trust_checkpoint=True)
    found = load_file(tmp_path / "weights.safetensors")
    assert set(found) == set(tied)
    assert all(torch.equal(found[name], tied[name]) for name in tied)
    assert {path.name for path in tmp_path.iterdir()} == {"epoch_12.pth", "weights.safetensors"}


def test_a_conversion_says_what_it_writes(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"ends with \.safetensors"):
        convert_checkpoint(tmp_path / "weights.pth", tmp_path / "weights.pt")


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.pth"):
        read_checkpoint(tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("weights")
    with pytest.raises(ValueError, match="as safetensors"):
        read_checkpoint(tmp_path / "text.safetensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"no state dict, but the keys \['epoch'\]"):
        read_checkpoint(tmp_path / "empty.pth")
