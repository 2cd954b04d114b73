"""One thread a process, and the compatibility matrix of the docs, written from the tests that passed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

_HEADER = """# Where it works

Every row is a test that trains a student with BatchNorm and dropout, with KD and a FitNet connector, through the door
and through the same distillation written into the LightningModule by hand, and compares the weights at the end. The
table is written by the tests that passed: `pytest tests/matrix --write-matrix docs/matrix.md`.

| situation | door 1: `DistillationModule` | door 2: `Distillation` |
|---|---|---|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-matrix", type=Path, help="write the table of passed situations to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_rows] = {}


_rows = pytest.StashKey[dict[str, dict[str, bool]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    marker = item.get_closest_marker("situation")
    if marker is not None and report.when == "call":
        values: dict[str, Any] = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        row = item.config.stash[_rows].setdefault(marker.args[0].format(**values), {})
        for door in [str(values["door"])] if "door" in values else ["1", "2"]:
            row[door] = row.get(door, True) and report.passed
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--write-matrix")
    if path is not None:
        rows = session.config.stash[_rows]
        lines = [f"| {_name(name)} | {_cell(name, row, '1')} | {_cell(name, row, '2')} |" for name, row in rows.items()]
        path.write_text(_HEADER + "\n".join(lines) + "\n", encoding="utf-8")


def _name(situation: str) -> str:
    return re.sub(r" \(refused\)$", "", situation)


def _cell(situation: str, row: dict[str, bool], door: str) -> str:
    passed = "refused with an error that says why" if situation.endswith("(refused)") else "equal"
    return {True: passed, False: "**fails**"}.get(row.get(door), "not tested")
