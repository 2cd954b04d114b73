"""The base class of every distillation method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from lightning_kd.engine.exchange import BuildContext, Exchange, Progress

Weight = float | Callable[[Progress], float]
"""A constant, or a schedule: any callable from :class:`Progress` to a number."""

Layers = Mapping[str, str] | Literal["auto", "penultimate"]
"""Which layers to compare: ``{student tap: teacher tap}``, ``"auto"`` (stage outputs) or ``"penultimate"``
(the classifier's input on both sides). A tap is a layer's dotted name; ``"name:input"`` taps its first input."""


@dataclass(frozen=True)
class Citation:
    """Where a method was published.

    Attributes:
        title: title of the paper.
        authors: first author "et al.".
        venue: conference or journal.
        year: year of publication.
        arxiv: arXiv identifier, or ``None``.
    """

    title: str
    authors: str
    venue: str
    year: int
    arxiv: str | None = None

    def __str__(self) -> str:
        arxiv = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.authors}, “{self.title}”, {self.venue} {self.year}{arxiv}"


class DistillationMethod(nn.Module):
    """One distillation objective: maps an :class:`Exchange` to a scalar loss.

    Subclass it, set the class attributes, and write ``forward``. Nothing needs to be registered: a subclass is found
    by discovery (for the library's own methods) or passed as an instance (for yours).

    Args:
        weight: factor of this method's loss in the total; a number or a schedule.
        layers: which layers to compare, for methods that compare features.

    Attributes:
        citation: the paper, or ``None``.
        aliases: names that other repositories use for the method.
        needs_teacher: ``False`` for self-distillation without a teacher.
        needs_teacher_output: whether ``forward`` looks at the teacher's output or logits. A method that compares layers
            only says ``False``: where all do, the teacher is left after the last tapped layer.
        reads_top_k: whether of the teacher's logits only :meth:`View.top <lightning_kd.View.top>` is read, so that
            ``TeacherCache(top_k=...)`` keeps enough.
        needs_target: whether class labels are needed.
        trains_teacher: whether the teacher is a peer that trains along.
        uses_all_teachers: whether ``forward`` itself looks at every teacher. Otherwise, with several teachers, the term
            is the mean of its values for each of them.
        needs_index: whether the samples' indices are needed; see :class:`~lightning_kd.data.WithIndex`.
        reads_last_map: whether under ``layers="auto"`` the deepest tap of the teacher is the last map before its pooled
            features, in place of the last stage, which a normalization or an activation may follow.
        has_setup_pass: whether the method looks at the whole training set once before training; see :meth:`observe`.
        pairs: the resolved ``(student tap, teacher tap)`` pairs; filled in before :meth:`build`.

    Raises:
        ValueError: if ``weight`` is negative.
    """

    citation: ClassVar[Citation | None] = None
    aliases: ClassVar[tuple[str, ...]] = ()
    needs_teacher: bool = True
    needs_teacher_output: bool = True
    reads_top_k: bool = False
    needs_target: bool = False
    trains_teacher: bool = False
    uses_all_teachers: bool = False
    needs_index: bool = False
    reads_last_map: bool = False
    has_setup_pass: bool = False

    def __init__(self, weight: Weight = 1.0, layers: Layers | None = None) -> None:
        super().__init__()
        if not callable(weight) and weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}; a term that should vanish gets weight 0")
        self.weight = weight
        self.layers = layers
        self.pairs: list[tuple[str, str]] = []

    @property
    def name(self) -> str:
        """The name under which the term is logged, ``kd/<name>``."""
        return type(self).__name__

    @property
    def needs_features(self) -> bool:
        """Whether the method compares tapped layers."""
        return self.layers is not None

    def weight_at(self, progress: Progress) -> float:
        """The weight at this point of the training."""
        return self.weight(progress) if callable(self.weight) else self.weight

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Choose among the stage pairs that ``layers="auto"`` found; all of them unless overridden.

        Args:
            pairs: ``(student tap, teacher tap)`` from the shallowest to the deepest stage.
        """
        return pairs

    def build(self, context: BuildContext) -> None:
        """Create connectors and buffers whose sizes depend on the networks; called once before training.

        Must create them in a deterministic order. Randomness comes from the global generator, which the engine
        isolates, so that adding a method changes nothing else of a run.
        """

    def observe(self, exchange: Exchange) -> None:
        """See one batch of the setup pass (``has_setup_pass``); ``exchange.student`` is empty in it."""

    def finish_setup(self) -> None:
        """Turn what :meth:`observe` gathered into buffers."""

    @property
    def has_per_sample(self) -> bool:
        """Whether the method has per-sample losses, so that a fusion ratio can weigh them."""
        return type(self).per_sample is not DistillationMethod.per_sample

    def per_sample(self, exchange: Exchange) -> Tensor:
        """The unweighted losses of the samples, ``(B,)``, whose mean is :meth:`forward`'s value; optional.

        Raises:
            NotImplementedError: if the method has no per-sample form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no per-sample losses")

    def deploy(self, network: nn.Module) -> nn.Module:
        """The network to evaluate, to count and to keep: the student's own, unless the method says otherwise.

        Args:
            network: the student's network, trained or in training; the method is built by then.

        Returns:
            A module that is called like ``network`` and shares its weights.
        """
        return network

    def student_features(self, exchange: Exchange) -> list[Tensor]:
        """The student's tapped features, in the order of :attr:`pairs`."""
        return [exchange.student.feature(student_tap) for student_tap, _ in self.pairs]

    def teacher_features(self, exchange: Exchange) -> list[Tensor]:
        """The (first) teacher's tapped features, in the order of :attr:`pairs`."""
        return [exchange.teacher.feature(teacher_tap) for _, teacher_tap in self.pairs]

    def forward(self, exchange: Exchange) -> Tensor:
        """The unweighted loss of this step, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must implement forward(exchange) and return a scalar loss")
