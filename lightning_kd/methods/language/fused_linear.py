"""Divergence of two language models straight from their last hidden states: no logits of the whole batch are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods._borrowed import Borrowed
from lightning_kd.methods.base import Citation, Layers, Weight
from lightning_kd.methods.language._tokens import IGNORE_INDEX, _TokenMethod, check_mask, share_of_tokens
from lightning_kd.methods.language.forward_kl import forward_kl_loss
from lightning_kd.methods.language.reverse_kl import reverse_kl_loss
from lightning_kd.methods.language.skew_kl import skew_forward_kl_loss, skew_reverse_kl_loss
from lightning_kd.methods.language.total_variation import total_variation_loss

Divergence = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A loss of student logits, teacher logits and a mask that is a mean over the valid tokens, such as
:func:`forward_kl_loss`; every token must count by itself."""

CHUNK_ELEMENTS = 2**23
"""Logits of one network that are held at a time, unless ``chunk`` says otherwise: 32 MiB in float32."""


def fused_linear_divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    mask: Tensor | None = None,
    *,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    divergence: Divergence = forward_kl_loss,
    chunk: int | None = None,
) -> Tensor:
    r"""A token loss of the logits :math:`h W^\top + b` of both networks, a few tokens at a time.

    Equal to ``divergence(F.linear(student_hidden, student_weight), F.linear(teacher_hidden, teacher_weight), mask)``,
    but neither logits nor probabilities ``(..., V)`` ever exist for all tokens: each chunk's logits are made, compared
    and differentiated in the forward pass. What is kept for the backward pass is as large as the student's hidden
    states and head.

    The gradient cannot be differentiated again.

    Args:
        student_hidden: what the student's head reads, ``(..., d)``.
        student_weight: weight of the student's head, ``(V, d)``.
        teacher_hidden: what the teacher's head reads, ``(..., D)``, of the same leading shape; no gradient flows into
            it.
        teacher_weight: weight of the teacher's head, ``(V, D)``; likewise.
        mask: valid tokens, of the leading shape; all by default.
        student_bias: bias of the student's head, ``(V,)``.
        teacher_bias: bias of the teacher's head, ``(V,)``.
        divergence: what to compute from the logits: any token loss of :mod:`lightning_kd.functional`, with further
            arguments bound by :func:`functools.partial`.
        chunk: tokens at a time; by default as many as make :data:`CHUNK_ELEMENTS` logits.

    Returns:
        Scalar: mean over the valid tokens, at least float32.

    Raises:
        ValueError: if the shapes do not fit or ``chunk`` is below 1.
    """
    _check(student_hidden, student_weight, student_bias, "student")
    _check(teacher_hidden, teacher_weight, teacher_bias, "teacher")
    if student_hidden.shape[:-1] != teacher_hidden.shape[:-1] or len(student_weight) != len(teacher_weight):
        raise ValueError(
            "student and teacher must have the same tokens and vocabulary, got hidden states "
            f"{tuple(student_hidden.shape)} and {tuple(teacher_hidden.shape)}, weights {tuple(student_weight.shape)} "
            f"and {tuple(teacher_weight.shape)}"
        )
    check_mask(student_hidden, mask)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 token, got {chunk}")
    size = chunk or max(1, CHUNK_ELEMENTS // len(student_weight))
    loss: Tensor = _FusedLinearDivergence.apply(
        student_hidden.flatten(0, -2),
        student_weight,
        student_bias,
        teacher_hidden.detach().flatten(0, -2),
        teacher_weight,
        teacher_bias,
        None if mask is None else mask.flatten(),
        divergence,
        size,
    )
    return loss


class _FusedLinearDivergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        teacher_bias: Tensor | None,
        mask: Tensor | None,
        divergence: Divergence,
        size: int,
    ) -> Tensor:
        to_hidden, to_weight, to_bias, *_ = ctx.needs_input_grad
        differentiate = to_hidden or to_weight or to_bias
        hidden_gradient = torch.empty_like(hidden) if to_hidden else None
        dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
        # chunk by chunk, sums in half precision would lose the small terms
        weight_gradient = torch.zeros_like(weight, dtype=dtype) if to_weight else None
        bias_gradient = torch.zeros_like(bias, dtype=dtype) if to_bias and bias is not None else None
        total = torch.zeros((), dtype=dtype, device=hidden.device)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            valid, share = _part_of(mask, part, len(hidden), dtype)
            with torch.no_grad():
                taught = F.linear(teacher_hidden[part].to(teacher_weight.dtype), teacher_weight, teacher_bias)
                logits = F.linear(hidden[part].to(weight.dtype), weight, bias)
            if not differentiate:
                total += share * divergence(logits, taught, valid)
                continue
            with torch.enable_grad():
                logits = logits.detach().requires_grad_()
                loss = share * divergence(logits, taught, valid)
                (gradient,) = torch.autograd.grad(loss, logits)
            total += loss.detach()
            if hidden_gradient is not None:
                hidden_gradient[part] = gradient @ weight.to(gradient.dtype)
            if weight_gradient is not None:
                _add_product(weight_gradient, gradient, hidden[part])
            if bias_gradient is not None:
                bias_gradient += gradient.sum(0)
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (
            None if saved is None else (saved * factor.to(saved.dtype)).to(dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (*gradients, None, None, None, None, None, None)


def _part_of(mask: Tensor | None, part: slice, count: int, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | float]:
    """The mask of a chunk, and the share of the valid tokens that lie in it."""
    if mask is None:
        return None, (min(part.stop, count) - part.start) / count
    return mask[part], mask[part].sum(dtype=dtype) / mask.sum(dtype=dtype).clamp_min(1)


def _add_product(total: Tensor, gradient: Tensor, hidden: Tensor) -> None:
    """``total += gradient.T @ hidden``, without a product of the size of ``total`` beside it."""
    if total.dtype == gradient.dtype == hidden.dtype and not torch.is_autocast_enabled(total.device.type):
        total.addmm_(gradient.T, hidden)
        return
    hidden = hidden.to(gradient.dtype)
    rows = max(1, CHUNK_ELEMENTS // total.shape[1])
    for start in range(0, len(total), rows):
        total[start : start + rows] += gradient[:, start : start + rows].T @ hidden


def _check(hidden: Tensor, weight: Tensor, bias: Tensor | None, whose: str) -> None:
    if hidden.ndim < 2 or weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"expected hidden states (..., d) and a head's weight (V, d), got {tuple(hidden.shape)} and "
            f"{tuple(weight.shape)} for the {whose}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"expected a bias of shape {(len(weight),)} for the {whose}, got {tuple(bias.shape)}")


DIVERGENCES: dict[str, Divergence] = {
    "forward_kl": forward_kl_loss,
    "reverse_kl": reverse_kl_loss,
    "skew_forward_kl": skew_forward_kl_loss,
    "skew_reverse_kl": skew_reverse_kl_loss,
    "total_variation": total_variation_loss,
}


class FusedLinearKL(_TokenMethod):
    """:func:`fused_linear_divergence` between next-token distributions: any of the plain token losses in less memory.

    The value is that of the loss on the logits; the teacher's logits, and the probabilities of both sides, are made for
    a few tokens at a time. The method reads what the two heads read, so a teacher whose logits nobody else needs does
    not compute them. The heads must be linear layers that hold their whole weight: not for sharded students.

    Args:
        divergence: the token loss to compute, by its name without ``_loss``.
        chunk: tokens at a time; by default as many as make about eight million logits.
        layers: the inputs of the two heads, such as ``{"lm_head:input": "lm_head:input"}``; by default they are found.
        weight: factor in the total loss.
        ignore_index: label of the positions to leave out.
        shift_labels: whether labels are unshifted, as Hugging Face models take them.

    Raises:
        ValueError: for an unknown divergence or a chunk below 1.
    """

    citation = Citation("Sequence-Level Knowledge Distillation", "Kim and Rush", "EMNLP", 2016, "1606.07947")
    needs_teacher_output = False

    def __init__(
        self,
        divergence: Literal[
            "forward_kl", "reverse_kl", "skew_forward_kl", "skew_reverse_kl", "total_variation"
        ] = "forward_kl",
        chunk: int | None = None,
        layers: Layers = "penultimate",
        weight: Weight = 1.0,
        ignore_index: int = IGNORE_INDEX,
        shift_labels: bool = False,
    ) -> None:
        super().__init__(weight, ignore_index, shift_labels)
        if divergence not in DIVERGENCES:
            raise ValueError(f"divergence must be one of {', '.join(DIVERGENCES)}, got {divergence!r}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1 token, got {chunk}")
        self.layers = layers
        self.divergence, self.chunk = divergence, chunk
        self._heads: tuple[Borrowed[nn.Linear], Borrowed[nn.Linear]] | None = None

    def build(self, context: BuildContext) -> None:
        """Find the heads.

        Raises:
            ValueError: if more than one pair of layers was given, or one is not the input of a linear layer.
        """
        if len(self.pairs) != 1:
            raise ValueError(f"FusedLinearKL compares the inputs of two heads, got {len(self.pairs)} pairs of layers")
        student, teacher = self.pairs[0]
        self._heads = Borrowed(_head(context.student, student)), Borrowed(_head(context.teachers[0], teacher))

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`fused_linear_divergence`."""
        hidden, taught = self.student_features(exchange)[0], self.teacher_features(exchange)[0]
        if self._heads is None:
            raise RuntimeError("FusedLinearKL must be built before it is called; the engine does this before training")
        student, teacher = (borrowed.layer for borrowed in self._heads)
        mask = self.mask_of(exchange, hidden.shape[:-1])
        loss = fused_linear_divergence(
            hidden,
            student.weight,
            taught,
            teacher.weight,
            mask,
            student_bias=student.bias,
            teacher_bias=teacher.bias,
            divergence=DIVERGENCES[self.divergence],
            chunk=self.chunk,
        )
        return loss * share_of_tokens(mask, loss)


def _head(network: nn.Module, tap: str) -> nn.Linear:
    layer, _, option = tap.partition(":")
    found = dict(network.named_modules()).get(layer)
    if option != "input" or not isinstance(found, nn.Linear):
        raise ValueError(
            f"the layer {tap!r} of {type(network).__name__} is not the input of a linear layer; name the head, for "
            'example layers={"lm_head:input": "lm_head:input"}'
        )
    return found
