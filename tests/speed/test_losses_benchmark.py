"""The benchmark of the losses' cost compares like with like, for every loss."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lightning_kd import functional

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"


def _import(name: str) -> ModuleType:
    sys.path.insert(0, str(SPEED))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(SPEED))


cases, measure, losses = _import("loss_cases"), _import("measure"), _import("losses")


def test_every_loss_has_inputs():
    assert sorted(cases.CASES) == sorted(functional.__all__)


@pytest.mark.parametrize("name", functional.__all__)
def test_reference_agrees(name):
    torch.manual_seed(0)
    case = cases.CASES[name]
    arguments = case.make(cases.TINY)
    leaves = cases.leaves(arguments)
    results = [
        measure.step(lambda compute=compute: compute(*arguments, **case.options), leaves)()
        for compute in (cases.loss(name), cases.reference(name))
    ]
    for ours, expected in zip(*results, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-8)
    assert any(gradient.any() for gradient in results[0][1:])


def test_disagreement_is_refused():
    ours, other = torch.ones(()), torch.tensor(1.01)
    with pytest.raises(ValueError, match="kd_loss differs from its reference"):
        losses.check_agreement("kd_loss", (ours,), (other,))


def test_peak_counts_what_lives_at_one_time():
    x = torch.zeros(1000)

    def one_after_the_other():
        for _ in range(5):
            _ = x + 1
        return (x,)

    def together():
        return (torch.stack([x + 1, x + 2, x + 3]),)

    assert measure.peak_bytes(one_after_the_other) in range(4000, 2 * 4000 + 500)
    assert measure.peak_bytes(together) in range(6 * 4000, 6 * 4000 + 1000)


def test_one_loss_is_measured_and_written(tmp_path, capsys):
    page = tmp_path / "cost.md"
    losses.main(["--only", "kd_loss", "--seconds", "0.01", "--output", str(page), "--date", "2026-01-31"])
    printed = capsys.readouterr().out
    assert "kd" in printed
    assert max(map(len, printed.splitlines())) <= 100
    text = page.read_text(encoding="utf-8")
    assert "2026-01-31" in text
    assert "| kd | 256x1000 |" in text


def test_unknown_loss_is_named(capsys):
    with pytest.raises(SystemExit):
        losses.main(["--only", "kd"])
    assert "kd_loss" in capsys.readouterr().err
