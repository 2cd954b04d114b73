"""Two gloo processes: ranks end bit-equal, and equal to the hand-written module under the same strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import ByHand, fit_by_hand, gap, ranks, through_door
from lightning.pytorch.strategies import DDPStrategy
from support import Innocent

DOORS = pytest.mark.parametrize("door", [1, 2])


def strategy(unused: bool = False) -> DDPStrategy:
    return DDPStrategy(start_method="fork", process_group_backend="gloo", find_unused_parameters=unused)


def seeded(make: Any, *args: Any) -> Any:
    torch.manual_seed(0)
    return make(*args)


def compare(door: int, tmp_path: Path, prepare: Any = lambda s: s, unused: bool = False, call: str = "model") -> None:
    ours, hand = tmp_path / "ours", tmp_path / "hand"
    ours.mkdir()
    hand.mkdir()
    settings = {"devices": 2, "max_epochs": 1}
    torch.manual_seed(0)
    through_door(door, prepare(Innocent(call=call)), ours, strategy=strategy(unused), **settings)
    connector = torch.load(ours / "connector.pt", weights_only=False)
    fit_by_hand(prepare(seeded(ByHand)), connector, hand, strategy=strategy(unused), **settings)
    results, expected = ranks(ours), ranks(hand)
    assert len(results) == len(expected) == 2
    trained = {k: v for k, v in results[0]["student"].items() if "running" not in k and "num_batches" not in k}
    other = {k: results[1]["student"][k] for k in trained}
    assert gap(trained, other) == 0.0
    for part in ("student", "connector"):
        for mine, theirs in zip(results, expected, strict=True):
            assert gap(_clean(mine[part]), _clean(theirs[part])) == 0.0
    assert gap(results[0]["connector"], connector.state_dict()) > 0.0


def _clean(state: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("_orig_mod.", ""): value for key, value in state.items() if "running" not in key}


@pytest.mark.slow
@pytest.mark.situation("DDP, 2 processes, find_unused_parameters={unused}, {call}(x)")
@DOORS
@pytest.mark.parametrize(
    ("unused", "call"), [(False, "model"), (True, "model"), (False, "self"), (True, "model.forward")]
)
def test_ddp(door: int, unused: bool, call: str, tmp_path: Path) -> None:
    compare(door, tmp_path, unused=unused, call=call)


def compile_attribute(student: Any) -> Any:
    torch.compiler.reset()
    student.model = torch.compile(student.model, backend="aot_eager")
    return student


@pytest.mark.slow
@pytest.mark.situation("DDP, 2 processes, torch.compile of the sub-module")
@DOORS
def test_ddp_compiled(door: int, tmp_path: Path) -> None:
    compare(door, tmp_path, prepare=compile_attribute)
