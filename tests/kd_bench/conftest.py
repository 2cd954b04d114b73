"""A protocol that takes a second: the digits, one epoch, the two rows that matter."""

from __future__ import annotations

import pytest
from kd_bench.protocol import Protocol, load_protocol


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
