"""The example runs and repeats; a short run of the very file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def example() -> Any:
    path = Path(__file__).parents[3] / "examples" / "tgeo_digits.py"
    spec = importlib.util.spec_from_file_location("example_tgeo_digits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_tgeo_against_fixed_ratios(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    scores = example.main(epochs=2, seeds=(0,))
    assert list(scores) == ["alpha = 0.1", "alpha = 0.5", "alpha = 0.9", "TGeo-KD"]
    assert len({score["accuracy"] for score in scores.values()}) > 1
    assert 0.0 < scores["TGeo-KD"]["teacher_right"] < 1.0
    assert "TGeo-KD" in capsys.readouterr().out
    assert example.main(epochs=2, seeds=(0,)) == scores
