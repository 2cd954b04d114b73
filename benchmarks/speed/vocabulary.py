"""Memory and time of the fused linear divergence against the loss on whole logits, at a language model's size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measure import peak_bytes_of_next_call
from torch import Tensor

from lightning_kd.functional import forward_kl_loss, fused_linear_divergence

TOKENS, VOCABULARY, WIDTH = 4096, 128_000, 1024


@dataclass(frozen=True)
class Cost:
    """One way to compute loss and gradients.

    Attributes:
        seconds: processor time of one call.
        peak_bytes: most that is allocated beside the inputs, gradients included.
        value: the loss.
    """

    seconds: float
    peak_bytes: int
    value: float


def measure(tokens: int = TOKENS, vocabulary: int = VOCABULARY, width: int = WIDTH) -> tuple[Cost, Cost]:
    """The dense and the fused way, once each.

    Args:
        tokens: valid tokens of a batch.
        vocabulary: size of the vocabulary.
        width: width of both networks' hidden states.

    Raises:
        ValueError: if the two disagree.
    """
    torch.manual_seed(0)
    hidden, taught = torch.randn(tokens, width), torch.randn(tokens, width)
    weight, head = (torch.randn(vocabulary, width).mul_(width**-0.5) for _ in range(2))
    leaves = hidden.requires_grad_(), weight.requires_grad_()

    def dense() -> Tensor:
        return forward_kl_loss(hidden @ weight.T, taught @ head.T)

    def fused() -> Tensor:
        return fused_linear_divergence(hidden, weight, taught, head)

    costs = _cost(dense, leaves), _cost(fused, leaves)
    if abs(costs[0].value - costs[1].value) > 1e-6 * abs(costs[0].value):
        raise ValueError(f"the fused loss is {costs[1].value}, the dense one {costs[0].value}")
    return costs


def _cost(loss: Callable[[], Tensor], leaves: tuple[Tensor, ...]) -> Cost:
    values: list[float] = []

    def run() -> tuple[Tensor, ...]:
        value = loss()
        gradients = torch.autograd.grad(value, leaves)
        values.append(value.item())
        return gradients

    started = time.process_time()
    peak = peak_bytes_of_next_call(run)
    return Cost(time.process_time() - started, peak, values[0])
