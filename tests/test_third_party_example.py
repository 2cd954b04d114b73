"""The example that distils LightningModules of other libraries; a short run of the very file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "third_party_module.py"


@pytest.mark.slow
def test_modules_of_two_other_libraries_are_distilled(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("example_third_party_module", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scores = module.main(epochs=5)
    assert list(scores) == ["classifier", "forecaster"]
    for networks in scores.values():
        assert list(networks) == ["teacher", "student alone", "student distilled"]
        # the two students start equal and see the same batches: only the teacher can make a difference
        assert networks["student alone"] != networks["student distilled"]
    assert all(0.1 < score["accuracy"] <= 1 for score in scores["classifier"].values())
    assert "student distilled" in capsys.readouterr().out
