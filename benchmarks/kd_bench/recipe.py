"""How a network is trained, as data: everything here is part of a protocol's hash."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Whole = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """Base of everything in a protocol file: frozen, strict about types, no unknown keys, finite numbers only.

    Attributes:
        added_later: fields that older protocols did not know. At their defaults they are left out of what is written
            and hashed, so that a new possibility does not change the hash of a protocol that does not use it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    added_later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        for name in self.added_later:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                written.pop(name, None)
        return written


class SGD(Spec):
    """Stochastic gradient descent with momentum.

    Attributes:
        decay_vectors: whether ``weight_decay`` holds for the student's vectors, such as biases and the parameters of
            normalization, too.
        bias_lr: factor of the learning rate of biases, but for those of normalization.
        decay_biases: whether ``weight_decay`` holds for these.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"decay_vectors", "bias_lr", "decay_biases"})

    name: Literal["sgd"]
    lr: Positive
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 0.0
    nesterov: bool = False
    decay_vectors: bool = True
    bias_lr: Positive = 1.0
    decay_biases: bool = True


class AdamW(Spec):
    """Adam with decoupled weight decay; ``decay_vectors`` as in :class:`SGD`."""

    added_later: ClassVar[frozenset[str]] = frozenset({"decay_vectors"})

    name: Literal["adamw"]
    lr: Positive
    weight_decay: NonNegative = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    decay_vectors: bool = True


class Constant(Spec):
    """The learning rate stays as it is."""

    name: Literal["constant"]


class MultiStep(Spec):
    """The learning rate is multiplied by ``gamma`` when an epoch in ``milestones`` begins.

    Attributes:
        warmup_steps: steps over which it first rises linearly from a thousandth of its value.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"warmup_steps"})

    name: Literal["multi-step"]
    milestones: tuple[Whole, ...]
    gamma: Positive = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class OneCycle(Spec):
    """Rises for the first ``warmup`` share of all steps, then falls towards zero along a cosine."""

    name: Literal["one-cycle"]
    warmup: Fraction = 0.2


class Cosine(Spec):
    """Rises linearly from ``warmup_lr`` over ``warmup`` epochs, then falls along a cosine; set once an epoch.

    As in timm: the cosine runs over all epochs, the warm-up covers its beginning.

    Attributes:
        warmup: epochs.
        warmup_lr: learning rate of the first epoch, if there is a warm-up.
        minimum: learning rate that the cosine ends at.
    """

    name: Literal["cosine"]
    warmup: Annotated[int, Field(ge=0)] = 0
    warmup_lr: NonNegative = 0.0
    minimum: NonNegative = 0.0


class Recipe(Spec):
    """How a network is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples a step, of all devices together.
        optimizer: optimizer and its settings.
        schedule: what happens to the learning rate.
        augmentation: settings of the data class's augmentation of the training split.
        precision: Lightning's precision flag; teachers that only teach compute in it, too.
        last_batch: whether the last, incomplete batch of an epoch is dropped or kept.
        label_smoothing: of the cross-entropy.
        clip: largest norm of the gradient, or ``None``.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"last_batch", "label_smoothing", "clip"})

    epochs: Whole
    batch_size: Whole
    optimizer: Annotated[SGD | AdamW, Field(discriminator="name")]
    schedule: Annotated[Constant | MultiStep | OneCycle | Cosine, Field(discriminator="name")]
    augmentation: dict[str, JsonValue] = Field(default_factory=dict)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    last_batch: Literal["drop", "keep"] = "drop"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    clip: Positive | None = None


class TeacherRecipe(Recipe):
    """How a teacher is trained on the spot; ``seed`` fixes its initialization and the order of its data."""

    seed: Annotated[int, Field(ge=0)] = 0
