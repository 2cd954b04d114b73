"""Published weights of the methods, as typed data with their sources.

    methods, task_weight = recipe("DKD", protocol="cifar100", pair="resnet32x4->resnet8x4").build()
    Distillation(teacher, methods, task_weight=task_weight)

A recipe here has been read in the code or the README that its ``source`` names. What was only remembered, or only
quoted by others, is left out.
"""

from lightning_kd.recipes.lookup import recipe, recipes
from lightning_kd.recipes.types import Ramp, Recipe, Stage, Term

__all__ = ["Ramp", "Recipe", "Stage", "Term", "recipe", "recipes"]
