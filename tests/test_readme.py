"""The README's code runs as it stands there, with the user's names filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from support import CLASSES, ResNetLike, difference, loader, make_student, make_teacher

from lightning_kd.testing import run_contract

README = Path(__file__).parents[1] / "README.md"


def block(containing: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [text for text in blocks if containing in text]
    assert len(found) == 1
    return found[0]


class Data(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader(8)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = L.Trainer

    def quick(**settings: Any) -> L.Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
        return trainer(**{**settings, **quiet, "max_epochs": 1})

    monkeypatch.setattr(L, "Trainer", quick)


def test_the_two_doors() -> None:
    names = {"student": make_student(), "teacher": make_teacher(), "datamodule": Data()}
    exec(block("door 1"), names)
    assert difference(names["student"], make_student()) > 0


def test_a_plain_network() -> None:
    line = re.search(r"`(DistillationModule\(network.*?\))`", README.read_text(encoding="utf-8"))
    assert line is not None
    names: dict[str, Any] = {"network": ResNetLike(), "teacher": make_teacher()}
    exec("from lightning_kd import *; from lightning_kd.methods import KD", names)
    module = eval(line.group(1).replace("num_classes=100", f"num_classes={CLASSES}"), names)
    L.Trainer().fit(module, loader(8))


def test_the_method_to_write() -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(block("ProbabilityMSE"), names)
    broken = [result for result in run_contract(names["ProbabilityMSE"]) if not result.passed]
    # pickling needs an importable module
    assert [result.name for result in broken] in ([], ["copies"])
    student = make_student()
    names |= {"student": student, "teacher": make_teacher(), "loader": loader(8)}
    exec("from lightning_kd import Distillation; import lightning as L", names)
    exec("t = L.Trainer(callbacks=[Distillation(teacher, ProbabilityMSE())]); t.fit(student, loader)", names)
    assert "kd/ProbabilityMSE" in names["t"].callback_metrics
