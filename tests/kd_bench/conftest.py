"""A protocol that takes a second: the digits, one epoch, the two rows that matter."""

from __future__ import annotations

from pathlib import Path

import pytest
from kd_bench.items import Item
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.runner import plan


@pytest.fixture
def tiny() -> Protocol:
    full = load_protocol("digits-v1")
    return full.model_copy(
        update={
            "id": "digits-tiny",
            "seeds": (0, 1),
            "methods": {name: full.methods[name] for name in ("plain", "KD", "FitNet")},
            "core": (),
            "teacher_recipe": full.teacher_recipe.model_copy(update={"epochs": 2}),
            "student_recipe": full.student_recipe.model_copy(update={"epochs": 2}),
        }
    )


@pytest.fixture
def item(tiny: Protocol, tmp_path: Path) -> Item:
    return plan(tiny, tmp_path, methods=["plain"])[0]
