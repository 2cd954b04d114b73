"""One thread a process, and the compatibility matrix of the docs, written from the tests that passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

_HEADER = """# Where it works

Every row is a test that trains a student with BatchNorm and dropout, with KD and a FitNet connector, through the door
and through the same distillation written into the LightningModule by hand, and compares the weights at the end:
*equal* means that no bit of the student or the connector differs. *Refused* means an error that says why and what to
do. The table is written by the tests that passed:
`pytest tests/engine/test_parity.py tests/matrix --write-matrix docs/matrix.md`.

| situation | door 1: `DistillationModule` | door 2: `Distillation` |
|---|---|---|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-matrix", type=Path, help="write the table of passed situations to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_rows] = {}


_rows = pytest.StashKey[dict[tuple[str, str], dict[str, bool]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    marker = item.get_closest_marker("situation")
    if marker is not None and report.when == "call":
        values: dict[str, Any] = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        key = (marker.args[0].format(**values), marker.kwargs.get("result", "equal"))
        row = item.config.stash[_rows].setdefault(key, {})
        for door in [str(values["door"])] if "door" in values else ["1", "2"]:
            row[door] = row.get(door, True) and report.passed
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--write-matrix")
    if path is not None:
        rows = session.config.stash[_rows]
        lines = [
            f"| {name} | {_cell(result, row, '1')} | {_cell(result, row, '2')} |"
            for (name, result), row in rows.items()
        ]
        path.write_text(_HEADER + "\n".join(lines) + "\n", encoding="utf-8")


def _cell(result: str, row: dict[str, bool], door: str) -> str:
    return {True: result, False: "**fails**"}.get(row.get(door), "not tested")
