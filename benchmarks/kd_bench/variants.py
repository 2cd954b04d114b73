"""Variants of a protocol, each with an id of its own, so that their results never mix with the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kd_bench.data.base import data_class
from kd_bench.errors import UserError
from kd_bench.miniature import write_data, write_teachers
from kd_bench.protocol import Protocol
from kd_bench.recipe import Cosine, MultiStep, Recipe, TeacherRecipe

QUICK = "-quick"
TUNING = "-tuning"
MINIATURE = "-miniature"
MINIATURE_BATCH = 8

R = TypeVar("R", bound=Recipe)


def quick(protocol: Protocol) -> Protocol:
    """A fifth of the epochs and two seeds, for trying things out."""
    return protocol.model_copy(
        update={
            "id": protocol.id + QUICK,
            "title": f"{protocol.title} (shortened; not for comparison)",
            "seeds": protocol.seeds[:2],
            **_recipes(protocol, lambda recipe: shortened(recipe, max(1, recipe.epochs // 5))),
        }
    )


def tuning(protocol: Protocol) -> Protocol:
    """For choosing hyper-parameters: trained on a part of the training set, scored on the rest; no test sample is seen.

    Raises:
        UserError: if the protocol's data has a validation split anyway.
    """
    if not data_class(protocol.data).has_parts:
        raise UserError(
            f"{protocol.id} measures validation accuracy in every run; choose hyper-parameters by the "
            "curve.validation_accuracy of its results, and leave --tune out"
        )
    parameters = {**protocol.data.parameters, "part": "tuning"}
    return protocol.model_copy(
        update={
            "id": protocol.id + TUNING,
            "title": f"{protocol.title} (tuning: scores are of the validation split)",
            "data": protocol.data.model_copy(update={"parameters": parameters}),
        }
    )


def miniature(protocol: Protocol, directory: Path) -> Protocol:
    """The protocol's whole path on a handful of samples: real file formats, real networks, one epoch, one seed.

    Its teachers have learnt nothing, its students start with random weights, and its scores mean nothing.

    Args:
        protocol: the protocol.
        directory: where the samples and the teachers' checkpoints are written.
    """
    data = write_data(protocol.data, protocol.student_recipe, directory / "data")
    small = protocol.model_copy(
        update={
            "id": protocol.id + MINIATURE,
            "title": f"{protocol.title} (a handful of samples; the scores mean nothing)",
            "seeds": protocol.seeds[:1],
            "data": data,
            # nothing is downloaded
            "students": {name: start.model_copy(update={"options": {}}) for name, start in protocol.students.items()},
            **_recipes(protocol, _tiny),
        }
    )
    teachers = write_teachers(small, directory / "teachers")
    if protocol.teachers and not teachers:
        recipe = TeacherRecipe.model_validate({**small.student_recipe.model_dump(), "seed": 0}, strict=False)
        small = small.model_copy(update={"teacher_recipe": small.teacher_recipe or recipe})
    return small.model_copy(update={"teachers": teachers})


def shortened(recipe: R, epochs: int) -> R:
    """The recipe with another number of epochs, the events of its schedule at the same share of them."""
    schedule = recipe.schedule
    share = epochs / recipe.epochs
    if isinstance(schedule, MultiStep):
        milestones = tuple(max(1, round(milestone * share)) for milestone in schedule.milestones)
        schedule = schedule.model_copy(update={"milestones": milestones})
    if isinstance(schedule, Cosine):
        schedule = schedule.model_copy(update={"warmup": round(schedule.warmup * share)})
    return recipe.model_copy(update={"epochs": epochs, "schedule": schedule})


def _tiny(recipe: Recipe) -> Recipe:
    size = min(recipe.batch_size, MINIATURE_BATCH)
    return shortened(recipe, 1).model_copy(update={"batch_size": size})


def _recipes(protocol: Protocol, change: Callable[[Any], Any]) -> dict[str, Any]:
    teacher = protocol.teacher_recipe
    return {
        "teacher_recipe": None if teacher is None else change(teacher),
        "student_recipe": change(protocol.student_recipe),
        "student_recipes": {name: change(recipe) for name, recipe in protocol.student_recipes.items()},
    }
