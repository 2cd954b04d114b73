"""What the online methods share: peers that train along, their settings and their own cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.base import DistillationMethod, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits


# The underscore keeps this base class, which is no method itself, out of discovery.
class OnlineMethod(DistillationMethod):
    """A method whose teachers are peers: they train along, in train mode, from the same batches.

    ``forward`` returns the student's distillation terms plus everything the peers learn from: their cross-entropy and
    their own distillation terms. The student's cross-entropy is its task loss (``task_weight``). Every term reaches one
    network only, the others enter it detached, so that one backward pass and one step equal separate simultaneous
    updates of all networks.

    The peers join the student's optimizer as a parameter group of their own. A peer that is a LightningModule with
    ``configure_optimizers`` brings its own optimizer instead. Peers are saved with the run;
    :attr:`Distillation.peers <lightning_kd.Distillation.peers>` gives them back.

    Args:
        weight: factor of the whole term, the peers' own losses included; leave it at 1 and use the method's factors.
        peer_lr: learning rate of the peers' parameter group at the start; it follows the student's schedule. By default
            the student's.
        peer_weight_decay: weight decay of that group; by default the student's.

    Raises:
        ValueError: if ``peer_lr`` is not positive or ``peer_weight_decay`` is negative.
    """

    trains_teacher = True
    uses_all_teachers = True
    needs_target = True

    def __init__(
        self, weight: Weight = 1.0, peer_lr: float | None = None, peer_weight_decay: float | None = None
    ) -> None:
        super().__init__(weight)
        if peer_lr is not None and not peer_lr > 0:
            raise ValueError(f"peer_lr must be positive, or None for the student's learning rate, got {peer_lr}")
        if peer_weight_decay is not None and peer_weight_decay < 0:
            raise ValueError(
                f"peer_weight_decay must not be negative, or None for the student's, got {peer_weight_decay}"
            )
        self.peer_lr, self.peer_weight_decay = peer_lr, peer_weight_decay


def all_logits(exchange: Exchange) -> list[Tensor]:
    """The logits of the student and of every peer, ``(B, C)`` each, the student first.

    Raises:
        ValueError: if there is no peer, or the shapes differ.
    """
    if not exchange.teachers:
        raise ValueError(
            "an online method needs at least one peer, but no teacher was given: pass `teacher=` (one network or a "
            "list of them) to DistillationModule or Distillation"
        )
    student = exchange.student.logits
    peers = [view.logits for view in exchange.teachers]
    for peer in peers:
        check_same_logits(student, peer)
    return [student, *peers]


def split_roles(networks: Sequence[Tensor], fellow_students: int) -> tuple[list[Tensor], list[Tensor]]:
    """Tell students from teachers.

    Args:
        networks: logits of the student and the peers, in order.
        fellow_students: how many of the peers, counted from the last, are students.

    Returns:
        The students, the first one first, and the teachers.

    Raises:
        ValueError: if no teacher is left.
    """
    count = len(networks) - fellow_students
    if count < 2:
        raise ValueError(
            f"fellow_students={fellow_students} of {len(networks) - 1} peers leaves no teacher; give more peers, the "
            "teachers first, or lower fellow_students"
        )
    return [networks[0], *networks[count:]], list(networks[1:count])


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """A peer's own cross-entropy: mean over the batch, at least float32."""
    check_labels(logits, target)
    return F.cross_entropy(at_least_float32(logits), target)


def check_factor(name: str, value: float) -> None:
    """Raise ``ValueError`` if a factor is negative."""
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}; a term that should vanish gets {name}=0")


def check_fellow_students(count: int) -> None:
    """Raise ``ValueError`` if the number of fellow students is negative."""
    if count < 0:
        raise ValueError(f"fellow_students counts peers and must not be negative, got {count}")
