"""The name that goes into a record."""

from __future__ import annotations

import pytest
from kd_bench.errors import UserError
from kd_bench.verification.author import author


def test_a_name_that_is_given() -> None:
    assert author(" Jane Doe ") == "Jane Doe"
    assert author("Zoe\u0308") == "Zo\u00eb"


@pytest.mark.parametrize("name", ["", "  "])
def test_nobody(name: str) -> None:
    with pytest.raises(UserError, match="who verifies"):
        author(name)


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a\u202eb", "x" * 121])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UserError, match="--by takes a name"):
        author(name)


def test_git_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Grace Hopper")
    assert author(None) == "Grace Hopper"


def test_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"set git's user\.name"):
        author(None)
