"""`lightning-kd methods`."""

from __future__ import annotations

import pytest
from torch import Tensor

from lightning_kd.cli.main import main
from lightning_kd.cli.method_table import (
    HEADS,
    LOGITS_ONLY,
    NOTHING,
    has_extra_parameters,
    markdown_table,
    method_rows,
)
from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods import discover, family
from lightning_kd.methods.base import Citation, DistillationMethod


class Foreign(DistillationMethod):
    def forward(self, exchange: Exchange) -> Tensor:
        return exchange.student.logits.sum()

    citation = Citation("Pipes | and more", "Doe", "ICLR", 2020)
    needs_target = True
    trains_teacher = True
    has_setup_pass = True
    needs_teacher = False


def test_every_discovered_method_has_a_row() -> None:
    rows = {row.name: row for row in method_rows(discover())}
    assert rows.keys() == discover().keys()
    for name, cls in discover().items():
        assert rows[name].family == family(cls)
        assert (rows[name].taps not in (LOGITS_ONLY, HEADS)) == cls().needs_features
        assert rows[name].taps != (LOGITS_ONLY if family(cls) == "detection" else HEADS)


def test_needs_of_known_methods() -> None:
    rows = {row.name: row for row in method_rows(discover())}
    assert rows["KD"].needs == NOTHING
    assert rows["DKD"].needs == "target"
    assert rows["FitNet"].needs == "features"


@pytest.mark.parametrize(
    ("name", "expected"),
    # CATKD builds buffers only; CTKD learns one temperature
    [("KD", False), ("AttentionTransfer", False), ("FitNet", True), ("CATKD", False), ("CTKD", True), ("TAID", False)],
)
def test_extra_parameters_are_those_that_are_trained(name: str, expected: bool) -> None:
    assert has_extra_parameters(discover()[name]) == expected


def test_rows_are_sorted_by_family_then_name() -> None:
    keys = [(row.family, row.name.lower()) for row in method_rows(discover())]
    assert keys == sorted(keys)


def test_every_need_is_named_and_pipes_do_not_break_the_markdown_table() -> None:
    (row,) = method_rows({"Foreign": Foreign})
    assert row.needs == "target, setup pass, trains teacher, no teacher"
    assert row.family == "custom"
    header, rule, line = markdown_table({"Foreign": Foreign}).splitlines()
    assert header.count("|") == rule.count("|") == line.replace(r"\|", "").count("|")
    assert r"Pipes \| and more" in line


def test_terminal_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["methods"]) == 0
    output = capsys.readouterr().out
    for name, cls in discover().items():
        assert name in output
        if cls.citation and cls.citation.arxiv:
            assert cls.citation.arxiv in output


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(discover())
    assert any(line.startswith("| `KD` | logits | logits only | no | no | no | no | Hinton et al.") for line in lines)
