"""The examples of the family run and tell what they promise; short runs of the very files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mutual_learning(capsys: pytest.CaptureFixture[str]) -> None:
    main = load("mutual_learning").main
    results = main(epochs=2)
    assert results.keys() == {"alone", "together"}
    assert all(len(values) == 2 and all(10 < value <= 100 for value in values) for values in results.values())
    assert results["alone"] != results["together"]
    assert "together" in capsys.readouterr().out
    assert main(epochs=2) == results


@pytest.mark.slow
def test_bdkd_against_kd_and_dml(capsys: pytest.CaptureFixture[str]) -> None:
    scores = load("bdkd_digits").main(epochs=2)
    assert list(scores) == ["plain", "KD", "DML", "BD-KD"]
    assert len({tuple(score.values()) for score in scores.values()}) == 4
    assert all(0 <= score["ece"] <= 100 for score in scores.values())
    assert "BD-KD" in capsys.readouterr().out
