"""What one training step hands to a distillation method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lightning_kd.engine.logits import find_logits
from lightning_kd.engine.top import TopK, top_of

LogitsOf = Callable[[Any], Tensor]


class View:
    """One network's side of a step: its output, its logits and its tapped features.

    Args:
        output: whatever the network returned.
        features: tap name → tensor.
        logits_of: extracts logits from ``output``; by default the output itself, ``.logits``, ``["logits"]`` or the
            first element.

    Attributes:
        partial: whether of the logits only the likeliest classes are known; see :meth:`top`.
    """

    partial: bool = False

    def __init__(self, output: Any, features: Mapping[str, Tensor] | None = None, logits_of: LogitsOf | None = None):
        self.output = output
        self.features: dict[str, Tensor] = dict(features or {})
        self._logits_of = logits_of or find_logits
        self._logits: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """The logits, usually ``(B, C)``.

        Raises:
            TypeError: if no logits can be found in the output.
        """
        if self._logits is None:
            self._logits = self._logits_of(self.output)
        return self._logits

    def top(self, k: int) -> TopK:
        """The likeliest classes and the mass of the others, for methods that need no more.

        Args:
            k: how many.
        """
        return top_of(self.logits, k)

    def feature(self, name: str) -> Tensor:
        """Return the tapped feature ``name``.

        Raises:
            KeyError: if the tap did not fire in this step; the message lists those that did.
        """
        try:
            return self.features[name]
        except KeyError:
            fired = ", ".join(sorted(self.features)) or "none"
            raise KeyError(
                f"the tap {name!r} did not fire in this step (fired: {fired}). The layer exists but the network's "
                "forward did not call it, or a compiled graph was traced before the tap was installed "
                "(call torch.compiler.reset() before fit)."
            ) from None

    def __repr__(self) -> str:
        shapes = {name: tuple(value.shape) for name, value in self.features.items()}
        return f"View(output={type(self.output).__name__}, features={shapes})"


class UnfinishedView(View):
    """The view of a teacher that was left after its last tap: features, but no output.

    Args:
        features: tap name → tensor.
    """

    def __init__(self, features: Mapping[str, Tensor]) -> None:
        self.features = dict(features)

    @property
    def output(self) -> Any:
        """Not there.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "the teacher's output was not computed: it was left after its last tapped layer, since every method says "
            "needs_teacher_output = False. Set needs_teacher_output = True in the method that reads the output or the "
            "logits"
        )

    @property
    def logits(self) -> Tensor:
        """Not there; see :attr:`output`."""
        found: Tensor = self.output
        return found

    def __repr__(self) -> str:
        return f"UnfinishedView(features={ {name: tuple(value.shape) for name, value in self.features.items()} })"


@dataclass(frozen=True)
class Progress:
    """How far training has come.

    Attributes:
        epoch: current epoch, from 0.
        step: optimizer steps taken so far.
        fraction: share of the training done, in ``[0, 1]``; 0 where the length of the training is unknown.
        max_epochs: planned number of epochs, or ``None``.
    """

    epoch: int = 0
    step: int = 0
    fraction: float = 0.0
    max_epochs: int | None = None


@dataclass
class Exchange:
    """Everything one training step hands to a method.

    Attributes:
        inputs: positional arguments that the student's network received.
        kwargs: keyword arguments that the student's network received.
        target: labels found in the batch, or ``None``.
        student: the student's view, with gradients.
        teachers: one view a teacher. Views of frozen teachers carry no gradient.
        task_loss: the student's own loss, or ``None`` before it is known (dry run).
        progress: epoch, step and fraction of the training.
        batch: the whole batch as the student's ``training_step`` got it.
        index: data set indices of the samples, ``(B,)``, where the data set is wrapped in
            :class:`~lightning_kd.data.WithIndex`.
        run_student: runs the student's network on other inputs and returns its view (with gradients).
        run_teacher: runs one teacher (by position) on other inputs and returns its view.
    """

    inputs: tuple[Any, ...]
    target: Any
    student: View
    teachers: list[View]
    task_loss: Tensor | None = None
    progress: Progress = field(default_factory=Progress)
    batch: Any = None
    index: Tensor | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    run_student: Callable[..., View] | None = None
    run_teacher: Callable[..., View] | None = None

    @property
    def teacher(self) -> View:
        """The view of the first (usually the only) teacher.

        Raises:
            ValueError: if there is none (self-distillation).
        """
        if not self.teachers:
            raise ValueError(
                "this method needs a teacher, but none was given: pass `teacher=` to DistillationModule or Distillation"
            )
        return self.teachers[0]

    @property
    def labels(self) -> Tensor:
        """The target as a tensor of class indices, ``(B,)``.

        Raises:
            ValueError: if the batch holds no target that the default rules find.
            TypeError: if the target is not a tensor.
        """
        if self.target is None:
            raise ValueError(
                "this method needs the target, but no label was found in the batch: pass `target=` (an index, a key "
                'or a callable) to DistillationModule or Distillation, for example `target="label"`'
            )
        if not isinstance(self.target, Tensor):
            raise TypeError(
                f"expected the target to be a tensor of class indices, got {type(self.target).__name__}; pass "
                "`target=` as a callable that takes the batch and returns the labels"
            )
        return self.target

    @property
    def images(self) -> Tensor:
        """The first tensor among the network's inputs.

        Raises:
            ValueError: if the network received no tensor.
        """
        for value in (*self.inputs, *self.kwargs.values()):
            if isinstance(value, Tensor):
                return value
        raise ValueError("the student's network received no tensor, so its inputs cannot be used by this method")


@dataclass
class BuildContext:
    """What a method sees once, before training, to size its connectors.

    Attributes:
        exchange: a dry-run exchange of two samples; shapes are real, values are not to be used.
        student: the student's network.
        teachers: the teachers' networks.
        num_samples: size of the training set where it is known.
    """

    exchange: Exchange
    student: nn.Module
    teachers: list[nn.Module]
    num_samples: int | None = None
