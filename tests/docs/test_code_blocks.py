"""Every Python block of the docs runs as it stands there; the blocks of one page one after another."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning as L
import pytest
import torch
from pages import DOCS, all_pages, code_blocks, name_of
from readers_things import quick_trainer, things

from lightning_kd.methods import discover
from lightning_kd.testing.rig import inputs_for

METHODS = discover()
WITH_CODE = [page for page in all_pages() if page.parent == DOCS and code_blocks(page, "python")]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(L, "Trainer", quick_trainer)


@pytest.fixture
def page_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What a page defines lives in a module, as a reader's own code does: classes can then be pickled."""
    module = ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, "docs_page", module)
    return module


def run(blocks: Iterable[str], module: ModuleType, names: dict[str, Any], source: str) -> dict[str, Any]:
    vars(module).update(names)
    for block in blocks:
        exec(compile(block, source, "exec"), vars(module))
    return vars(module)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_page(page: Path, page_module: ModuleType) -> None:
    run(code_blocks(page, "python"), page_module, things(), name_of(page))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_a_methods_page(name: str, page_module: ModuleType) -> None:
    method = METHODS[name]
    names = things(inputs_for(method), indexed=method.needs_index)
    usage, *others = code_blocks(DOCS / "methods" / f"{name}.md", "python")
    before = {key: value.clone() for key, value in names["student"].state_dict().items()}
    names = run([usage], page_module, names, f"{name}.md")
    logged = names["trainer"].callback_metrics
    assert torch.isfinite(logged[f"kd/{name}"])
    after = names["student"].state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    run(others, page_module, {}, f"{name}.md")


def test_every_guide_with_something_to_run_is_run() -> None:
    guides = {
        "doors",
        "online",
        "self-distillation",
        "fusion",
        "schedules-and-monitors",
        "writing-a-method",
        "benchmark",
    }
    assert {page.stem for page in WITH_CODE} >= guides
