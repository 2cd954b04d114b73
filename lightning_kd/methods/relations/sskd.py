"""Self-Supervision Signals for distillation: mimic how the teacher relates rotated images to their originals."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters
from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import (
    at_least_float32,
    check_labels,
    check_same_logits,
    check_temperature,
    full_precision,
)
from lightning_kd.methods.relations._embeddings import embedding, unit_rows


def rotations(images: Tensor) -> Tensor:
    """Rotate square images by 90, 180 and 270 degrees.

    Args:
        images: ``(B, C, H, H)``.

    Returns:
        ``(3B, C, H, H)``: all images by 90 degrees, then by 180, then by 270.

    Raises:
        ValueError: if these are no square images.
    """
    if images.dim() != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"SSKD rotates square images (B, C, H, H), got inputs of shape {tuple(images.shape)}; crop to a square"
        )
    return torch.cat([images.rot90(turns, (2, 3)) for turns in (1, 2, 3)])


def filtered_divergence(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float, keep_wrong: float
) -> Tensor:
    r"""Distillation loss over the rows that the teacher gets right and the least wrong of the others.

    Rows are ranked by the place that the teacher gives to the target; those at first place and a share ``keep_wrong``
    of the rest, best first, are kept: :math:`T^2\,\mathrm{mean}_{kept}\,\mathrm{KL}(p^t\|p^s)`.

    Args:
        student_logits: ``(R, C)``.
        teacher_logits: ``(R, C)``; no gradient flows into them.
        target: the right column of each row, ``(R,)``.
        temperature: softmax temperature.
        keep_wrong: share of the wrong rows that is kept, in ``[0, 1]``.

    Returns:
        Scalar, at least float32; zero if no row is kept.
    """
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    hit = teacher.gather(1, target.unsqueeze(1))
    place = (teacher > hit).sum(1)
    wrong = place > 0
    rows = torch.arange(place.shape[0], device=place.device)
    standing = torch.empty_like(rows).scatter_(0, place.argsort(stable=True), rows)
    kept = standing < (~wrong).sum() + (wrong.sum() * keep_wrong).floor()
    divergence = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="none",
        log_target=True,
    ).sum(1)
    return temperature**2 * (divergence * kept).sum() / kept.sum().clamp_min(1)


def rotation_similarities(original: Tensor, rotated: Tensor) -> Tensor:
    """Cosine similarity of each rotated image with each original of the batch.

    Args:
        original: embeddings of the originals, ``(B, D)``.
        rotated: embeddings of the rotated images, ``(3B, D)``.

    Returns:
        ``(3B, B)``.
    """
    with full_precision(original):
        return unit_rows(at_least_float32(rotated)) @ unit_rows(at_least_float32(original)).mT


class SSKD(DistillationMethod):
    """Distillation on rotated images plus transfer of the contrastive similarities between rotated and original ones.

    ``transformed_weight`` times the (filtered) distillation loss on the three rotations of each image, plus
    ``similarity_weight`` times the same loss on the rows of the cosine-similarity matrix of small heads over the
    penultimate features. The published recipe adds ``KD(temperature=4, weight=0.9)`` and ``task_weight=0.1``.

    Where this differs from the authors' code:

    * The teacher's head is trained along, by the same contrastive task that the authors train it on in 60 epochs
      beforehand. The backbone is frozen and the head takes no gradient from the student, so its optimum is the same,
      but early similarities carry less; ``head_epochs`` keeps them from the student for so many epochs.
    * The rotated images make a forward pass of their own, so the student's batch norm sees them apart from the
      originals, not in one batch of four times the size.

    Args:
        transformed_weight: weight of the distillation loss on rotated images.
        similarity_weight: weight of the similarity loss.
        transformed_temperature: temperature of the former.
        similarity_temperature: temperature of the latter and of the contrastive task.
        transformed_keep: share of rotated images misclassified by the teacher that is kept.
        similarity_keep: share of rotated images that the teacher relates to a wrong original that is kept.
        head_epochs: epochs in which only the teacher's head learns, before its similarities are used.
        layers: which layers feed the heads, one pair; maps and tokens are averaged.
        weight: factor in the total loss.
    """

    citation = Citation("Knowledge Distillation Meets Self-Supervision", "Xu et al.", "ECCV", 2020, "2006.07114")
    aliases = ("SSKDLoss",)
    needs_target = True
    needs_teacher_output = False

    def __init__(
        self,
        transformed_weight: float = 2.7,
        similarity_weight: float = 10.0,
        transformed_temperature: float = 4.0,
        similarity_temperature: float = 0.5,
        transformed_keep: float = 1.0,
        similarity_keep: float = 0.75,
        head_epochs: int = 0,
        layers: Layers = "penultimate",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        check_temperature(transformed_temperature)
        check_temperature(similarity_temperature)
        if not 0 <= transformed_keep <= 1 or not 0 <= similarity_keep <= 1:
            raise ValueError(f"the kept shares must be in [0, 1], got {transformed_keep} and {similarity_keep}")
        self.transformed_weight, self.similarity_weight = transformed_weight, similarity_weight
        self.transformed_temperature = transformed_temperature
        self.similarity_temperature = similarity_temperature
        self.transformed_keep, self.similarity_keep = transformed_keep, similarity_keep
        self.head_epochs = head_epochs

    def build(self, context: BuildContext) -> None:
        """Create the heads of student and teacher."""
        if len(self.pairs) != 1:
            raise ValueError(f"SSKD uses one pair of layers, got {len(self.pairs)}: {self.pairs}; name one pair")
        student, teacher = self._embeddings(context.exchange.student, context.exchange.teacher)
        self.student_head = _head(student.shape[1])
        self.teacher_head = _head(teacher.shape[1])

    def forward(self, exchange: Exchange) -> Tensor:
        """The two weighted terms, and the teacher's head's own loss."""
        labels = exchange.labels
        check_labels(exchange.student.logits, labels)
        # refuses a missing teacher before two forward passes are spent
        originals = self._embeddings(exchange.student, exchange.teacher)
        student, teacher = self._rotated_views(exchange)
        check_same_logits(student.logits, teacher.logits)
        transformed = filtered_divergence(
            student.logits, teacher.logits, labels.repeat(3), self.transformed_temperature, self.transformed_keep
        )
        student_similarities, teacher_similarities = (
            rotation_similarities(_apply(head, original), _apply(head, rotated))
            for head, original, rotated in zip(
                (self.student_head, self.teacher_head), originals, self._embeddings(student, teacher), strict=True
            )
        )
        own = torch.arange(labels.shape[0], device=labels.device).repeat(3)
        similarity = filtered_divergence(
            student_similarities, teacher_similarities, own, self.similarity_temperature, self.similarity_keep
        )
        contrastive = F.cross_entropy(teacher_similarities / self.similarity_temperature, own)
        similarity_weight = self.similarity_weight if exchange.progress.epoch >= self.head_epochs else 0.0
        return self.transformed_weight * transformed + similarity_weight * similarity + contrastive

    def _rotated_views(self, exchange: Exchange) -> tuple[View, View]:
        if exchange.run_student is None or exchange.run_teacher is None:
            raise ValueError("SSKD runs both networks on rotated images, but this exchange brings no way to run them")
        if len(exchange.inputs) != 1 or exchange.kwargs:
            raise ValueError(
                f"SSKD needs a network that takes one tensor of images, got {len(exchange.inputs)} positional and "
                f"{len(exchange.kwargs)} keyword arguments"
            )
        images = rotations(exchange.images)
        # A traced network would write its batch-norm statistics as one more in-place change, which the graph of the
        # forward on the originals refuses.
        call = _call_eagerly if torch.compiler.is_compiling() else _call
        return call(exchange.run_student, images), call(exchange.run_teacher, images)

    def _embeddings(self, student: View, teacher: View) -> tuple[Tensor, Tensor]:
        ((student_tap, teacher_tap),) = self.pairs
        return embedding(student.feature(student_tap)), embedding(teacher.feature(teacher_tap).detach())


def _call(run: Callable[..., View], images: Tensor) -> View:
    return run(images)


_call_eagerly = torch.compiler.disable(_call)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _head(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))


def _apply(head: nn.Module, features: Tensor) -> Tensor:
    projected: Tensor = head(like_parameters(features, head))
    return projected
