"""TAID: the target moves from the student's own distribution to the teacher's as training proceeds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_kd.engine.exchange import Exchange, Progress
from lightning_kd.methods.base import Citation, Weight
from lightning_kd.methods.checks import at_least_float32, check_same_logits
from lightning_kd.methods.language._tokens import (
    IGNORE_INDEX,
    _TokenMethod,
    check_mask,
    kl_per_token,
    masked_mean,
    share_of_tokens,
)

_EPS = 1e-15


def taid_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None, t: float | Tensor = 0.4
) -> Tensor:
    r"""Forward KL from the interpolated target, per token.

    .. math:: \mathrm{KL}(p_t \| p^s), \qquad p_t = \mathrm{softmax}\big((1-t)\,\mathrm{sg}[z^s] + t\,z^t\big)

    The gradient is :math:`p^s - p_t`. The authors' code minimises the cross-entropy, whose gradient is the same.

    Args:
        student_logits: student logits, ``(..., V)``.
        teacher_logits: teacher logits of the same shape; no gradient flows into them.
        mask: valid tokens, of the leading shape; all by default.
        t: interpolation in ``[0, 1]``; 1 is the forward KL from the teacher.

    Returns:
        Scalar: sum over the vocabulary, mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit, or ``t`` is a number outside ``[0, 1]``.

    Reference: Shing et al., "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in
    Language Models", ICLR 2025, arXiv:2501.16937.
    """
    if not isinstance(t, Tensor) and not 0 <= t <= 1:
        raise ValueError(f"t must be in [0, 1], got {t}")
    student, target = _student_and_target(student_logits, teacher_logits, mask, t)
    return masked_mean(kl_per_token(target, student), mask)


def _student_and_target(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None, t: float | Tensor
) -> tuple[Tensor, Tensor]:
    check_same_logits(student_logits, teacher_logits)
    check_mask(student_logits, mask)
    student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
    target = (1 - t) * student.detach() + t * teacher
    return student.log_softmax(-1), target.log_softmax(-1)


class TAID(_TokenMethod):
    r""":func:`taid_loss` with the paper's adaptive schedule.

    ``t`` starts at ``t_start`` and never decreases. After every optimizer step

    .. math:: m \leftarrow \beta m + (1-\beta)\frac{L_{n-1} - L_n}{L_{n-1}}, \qquad
        t \leftarrow \min\big(t_{end}, \max(t_{lin}, t + \alpha\,\sigma(m)\,(1 - t))\big)

    with the cross-entropy as ``L`` and the linear ramp :math:`t_{lin}` from ``t_start`` to ``t_end`` over the training.
    The step is small (about ``alpha / 2``), so that ``t`` overtakes the ramp noticeably only in trainings of more than
    a few thousand steps; :attr:`t` can be logged. Unlike in the authors' code, validation does not advance it, nor does
    gradient accumulation, and all ranks share one ``t``.

    Args:
        t_start: first interpolation: 0.4 in the code, 0.2 for the paper's Llama-2 and StableLM pairs.
        t_end: last interpolation.
        alpha: step size.
        beta: momentum of the relative progress.
        adaptive: ``False`` follows the linear ramp alone.
        weight: factor in the total loss; the paper uses no task loss (``task_weight=0``).
        ignore_index: label of the positions to leave out.
        shift_labels: whether labels are unshifted, as Hugging Face models take them.
    """

    citation = Citation(
        "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in Language Models",
        "Shing et al.",
        "ICLR",
        2025,
        "2501.16937",
    )

    t: Tensor
    momentum: Tensor
    previous_loss: Tensor
    last_step: Tensor

    def __init__(
        self,
        t_start: float = 0.4,
        t_end: float = 1.0,
        alpha: float = 5e-4,
        beta: float = 0.99,
        adaptive: bool = True,
        weight: Weight = 1.0,
        ignore_index: int = IGNORE_INDEX,
        shift_labels: bool = False,
    ) -> None:
        super().__init__(weight, ignore_index, shift_labels)
        if not 0 <= t_start <= t_end <= 1:
            raise ValueError(f"expected 0 <= t_start <= t_end <= 1, got t_start={t_start} and t_end={t_end}")
        if not 0 <= beta < 1 or alpha < 0:
            raise ValueError(f"expected 0 <= beta < 1 and alpha >= 0, got beta={beta} and alpha={alpha}")
        self.t_start, self.t_end, self.alpha, self.beta, self.adaptive = t_start, t_end, alpha, beta, adaptive
        self.register_buffer("t", torch.tensor(t_start))
        self.register_buffer("momentum", torch.zeros(()))
        self.register_buffer("previous_loss", torch.tensor(torch.inf))
        self.register_buffer("last_step", torch.tensor(-1, dtype=torch.long))

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`taid_loss`; advances the schedule once per optimizer step, in training mode only."""
        mask = self.mask(exchange)
        t = self.t if self.adaptive else self.t.new_tensor(self._ramp(exchange.progress))
        logits = exchange.student.logits
        t = t.to(at_least_float32(logits).dtype)
        student, target = _student_and_target(logits, exchange.teacher.logits, mask, t)
        loss = masked_mean(kl_per_token(target, student), mask)
        share = share_of_tokens(mask, loss)
        if self.training and self.adaptive:
            cross_entropy = masked_mean(-(target.exp() * student.detach()).sum(-1), mask)
            self._advance(cross_entropy * share, exchange.progress)
        return loss * share

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Follow the module to its device, but not to its dtype: bfloat16 would swallow steps of ``alpha / 2``."""
        exact = dict(self.named_buffers(recurse=False))
        apply: Any = super()._apply  # torch leaves it untyped
        apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def _ramp(self, progress: Progress) -> float:
        return self.t_start + (self.t_end - self.t_start) * progress.fraction

    @torch.no_grad()
    def _advance(self, loss: Tensor, progress: Progress) -> None:
        """Move ``t``; a step that was seen already (gradient accumulation) changes nothing."""
        loss = _mean_over_ranks(loss).to(self.t.dtype)
        fresh = self.last_step != progress.step
        known = fresh & self.previous_loss.isfinite()
        gain = (self.previous_loss - loss) / (self.previous_loss + _EPS)
        momentum = self.beta * self.momentum + (1 - self.beta) * gain
        moved = self.t + self.alpha * momentum.sigmoid() * (1 - self.t)
        moved = moved.clamp_min(self._ramp(progress)).clamp_max(self.t_end)
        self.momentum.copy_(torch.where(known, momentum, self.momentum))
        self.t.copy_(torch.where(known, moved, self.t))
        self.previous_loss.copy_(torch.where(fresh, loss, self.previous_loss))
        self.last_step.fill_(progress.step)


def _mean_over_ranks(value: Tensor) -> Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()
