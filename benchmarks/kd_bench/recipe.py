"""How a network is trained, as data: everything here is part of a protocol's hash."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Whole = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """Base of everything in a protocol file: frozen, strict about types, no unknown keys, finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SGD(Spec):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    lr: Positive
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 0.0
    nesterov: bool = False


class AdamW(Spec):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"]
    lr: Positive
    weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)


class Constant(Spec):
    """The learning rate stays as it is."""

    name: Literal["constant"]


class MultiStep(Spec):
    """The learning rate is multiplied by ``gamma`` when an epoch in ``milestones`` begins."""

    name: Literal["multi-step"]
    milestones: tuple[Whole, ...]
    gamma: Positive = 0.1


class OneCycle(Spec):
    """Rises for the first ``warmup`` share of all steps, then falls towards zero along a cosine."""

    name: Literal["one-cycle"]
    warmup: Fraction = 0.2


class Recipe(Spec):
    """How a network is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples a step; the last, incomplete batch of an epoch is dropped.
        optimizer: optimizer and its settings.
        schedule: what happens to the learning rate.
        augmentation: settings of the data class's augmentation of the training split.
        precision: Lightning's precision flag.
    """

    epochs: Whole
    batch_size: Whole
    optimizer: Annotated[SGD | AdamW, Field(discriminator="name")]
    schedule: Annotated[Constant | MultiStep | OneCycle, Field(discriminator="name")]
    augmentation: dict[str, JsonValue] = Field(default_factory=dict)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"


class TeacherRecipe(Recipe):
    """How a teacher is trained on the spot; ``seed`` fixes its initialization and the order of its data."""

    seed: Annotated[int, Field(ge=0)] = 0
