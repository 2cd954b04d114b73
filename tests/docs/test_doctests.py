"""The examples in the docstrings of both packages, and of the generator of the docs, do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import kd_bench
import pytest

import lightning_kd


def modules() -> Iterator[str]:
    yield from ("docstrings", "generate", "measured", "published")
    for package in (lightning_kd, kd_bench):
        yield package.__name__
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield info.name


@pytest.mark.parametrize("name", list(modules()))
def test_doctests(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_doctests() -> None:
    finder = doctest.DocTestFinder()
    found = sum(len(test.examples) for name in modules() for test in finder.find(importlib.import_module(name)))
    assert found > 30
