"""PS-KD: the targets are refined, epoch by epoch, by what the student predicted an epoch ago."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_kd.engine.exchange import BuildContext, Exchange, Progress, View
from lightning_kd.methods.base import Citation, DistillationMethod, Weight
from lightning_kd.methods.self_distillation.guided import guided_self_distillation_loss
from lightning_kd.methods.self_distillation.snapshot import PastStudent


def progressive_self_distillation_loss(
    student_logits: Tensor, past_logits: Tensor, target: Tensor, alpha: float
) -> Tensor:
    r"""Cross-entropy with labels that are partly the student's own past predictions.

    .. math:: H\big((1-\alpha_t)\,m + \alpha_t\,p_{t-1},\; p_t\big)

    Args:
        student_logits: student logits, ``(B, C)``.
        past_logits: logits of the student at the end of the previous epoch, ``(B, C)``; no gradient flows into them.
        target: class indices, ``(B,)``.
        alpha: share :math:`\alpha_t` of the past predictions in the targets.

    Returns:
        Scalar: mean over the batch, at least float32.

    Raises:
        ValueError: if the shapes differ or the labels do not fit.

    Reference: Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021,
    arXiv:2006.12000.
    """
    return guided_self_distillation_loss(student_logits, past_logits, target, 1 - alpha)


class PSKD(DistillationMethod):
    r""":func:`progressive_self_distillation_loss` with :math:`\alpha_t = \alpha_T\,t/T`; there is no teacher.

    The method is the whole loss, labels included: use it with ``task_weight=0``. At the start of every epoch the
    student's weights are kept; their predictions on the current batch, in eval mode, are the past ones. The first epoch
    learns from the labels alone. The past travels with the checkpoint and is the same on all ranks; it costs the
    student's memory once more and one forward pass a step.

    Args:
        alpha: share of the past predictions in the last epoch, :math:`\alpha_T`.
        weight: factor in the total loss.

    Raises:
        ValueError: if ``alpha`` is not in ``[0, 1]``.
    """

    citation = Citation(
        "Self-Knowledge Distillation with Progressive Refinement of Targets", "Kim et al.", "ICCV", 2021, "2006.12000"
    )
    aliases = ("PS-KD", "ProgressiveSelfKD")
    needs_teacher = False
    needs_target = True

    def __init__(self, alpha: float = 0.8, weight: Weight = 1.0) -> None:
        super().__init__(weight)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is a share of the targets and must be in [0, 1], got {alpha}")
        self.alpha = alpha
        self._past: PastStudent | None = None
        self._epoch: int | None = None

    def build(self, context: BuildContext) -> None:
        """Copy the network that past weights will run in."""
        self._past, self._epoch = PastStudent(context.student), None

    def share(self, progress: Progress) -> float:
        """The share of the past predictions in the targets; by steps where the number of epochs is unknown."""
        if progress.max_epochs is None:
            return self.alpha * progress.fraction
        return self.alpha * min((progress.epoch + 1) / progress.max_epochs, 1.0)

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`progressive_self_distillation_loss`."""
        past = self._known_past()
        epoch = exchange.progress.epoch
        if self._epoch is not None and epoch != self._epoch:
            past.take()
        self._epoch = epoch
        past.remember_buffers()
        student = exchange.student
        if past.weights is None:
            return progressive_self_distillation_loss(student.logits, student.logits, exchange.labels, 0.0)
        before = View(past(exchange.inputs, exchange.kwargs), logits_of=student._logits_of).logits
        return progressive_self_distillation_loss(
            student.logits, before, exchange.labels, self.share(exchange.progress)
        )

    def get_extra_state(self) -> dict[str, Any]:
        """The past weights and the epoch they were left in."""
        return {"epoch": self._epoch, **({} if self._past is None else self._past.state())}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`get_extra_state`; the method is built by then."""
        self._epoch = state["epoch"]
        if "weights" in state:
            self._known_past().restore({"weights": state["weights"], "buffers": state["buffers"]})

    def _known_past(self) -> PastStudent:
        if self._past is None:
            raise RuntimeError(
                "PSKD was used before it was built: train it through DistillationModule or Distillation, or call "
                "build(context) with the student first"
            )
        return self._past
