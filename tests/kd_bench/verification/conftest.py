"""Entries to verify: trained once, copied for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from verifiable_entries import know_the_protocol, publish, train_entries


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a benchmark with weights; nobody may change it."""
    return train_entries(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def results(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Published results of the tiny protocol, which the benchmark knows."""
    know_the_protocol(monkeypatch)
    return publish(trained, tmp_path / "leaderboards")
