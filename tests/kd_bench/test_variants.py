from __future__ import annotations

import pytest
from kd_bench import variants
from kd_bench.errors import UserError
from kd_bench.protocol import load_protocol
from kd_bench.recipe import SGD, Cosine, MultiStep, Recipe


def test_quick_never_mixes_with_the_real_protocol() -> None:
    full = load_protocol("digits-v1")
    quick = variants.quick(full)
    assert quick.id == "digits-v1-quick"
    assert quick.hash != full.hash
    assert quick.student_recipe.epochs < full.student_recipe.epochs
    assert len(quick.seeds) == 2


def test_what_has_a_validation_split_anyway_needs_no_tuning_variant() -> None:
    with pytest.raises(UserError, match="measures validation accuracy in every run"):
        variants.tuning(load_protocol("digits-v1"))


def _recipe(schedule: MultiStep | Cosine) -> Recipe:
    return Recipe(epochs=240, batch_size=64, optimizer=SGD(name="sgd", lr=0.05), schedule=schedule)


def test_a_shorter_recipe_keeps_the_shape_of_its_schedule() -> None:
    steps = variants.shortened(_recipe(MultiStep(name="multi-step", milestones=(150, 180, 210))), 48)
    assert steps.epochs == 48
    assert steps.schedule == MultiStep(name="multi-step", milestones=(30, 36, 42))
    cosine = variants.shortened(_recipe(Cosine(name="cosine", warmup=20)), 24)
    assert cosine.schedule == Cosine(name="cosine", warmup=2)
