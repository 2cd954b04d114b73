"""The published weights of a method, from :mod:`lightning_kd.recipes`, as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import get_args

from docstrings import cell, wrap

from lightning_kd.recipes import Recipe, Term, recipes
from lightning_kd.recipes.types import Protocol

_TITLES: dict[str, str] = {"cifar100": "CIFAR-100", "imagenet": "ImageNet"}


def published_tables(name: str) -> Iterator[str]:
    """One table for every benchmark and source in which the method has weights.

    Args:
        name: the method's class.
    """
    for protocol in get_args(Protocol):
        ours = [recipe for recipe in recipes(protocol) if any(term.method == name for term in recipe.terms)]
        for (source, note), group in groupby(ours, key=lambda recipe: (recipe.source, recipe.note)):
            title = wrap(f"**{_TITLES.get(protocol, protocol)}**, from {source}. {note}".strip())
            header = "| recipe | pair (teacher → student) | task weight | methods |\n|---|---|---|---|"
            yield "\n".join([title, "", header, *map(_row, group)])


def _row(recipe: Recipe) -> str:
    pair = recipe.pair.replace("->", " → ") if recipe.pair else "all"
    terms = ", ".join(f"`{_term(term)}`{_ramp(term)}" for term in recipe.terms)
    stages = "".join(
        f"; stage {number}: {stage.name}{f', {stage.epochs} epochs' if stage.epochs else ''}"
        for number, stage in enumerate(recipe.stages, start=1)
    )
    return (
        "| " + " | ".join(cell(text) for text in (recipe.name, pair, f"{recipe.task_weight:g}", terms + stages)) + " |"
    )


def _term(term: Term) -> str:
    arguments = {**term.arguments, "weight": term.weight}
    return f"{term.method}({', '.join(f'{name}={_value(value)}' for name, value in arguments.items())})"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _ramp(term: Term) -> str:
    return "" if term.ramp is None else f", warmed up over {term.ramp.epochs} epochs from epoch {term.ramp.first_epoch}"
