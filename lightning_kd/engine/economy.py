"""Cheaper ways to run a frozen teacher: half precision, another memory layout, a compiled graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

Precision = Literal["bf16", "fp16"]

_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Economy:
    """How a teacher is run.

    Attributes:
        precision: type of its weights and of its computation; ``None`` for what the student's training uses.
        channels_last: whether images and convolutions are laid out channels last.
        compile: whether it is compiled by ``torch.compile``.

    Raises:
        ValueError: for an unknown precision.
    """

    precision: Precision | None = None
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in _DTYPES:
            raise ValueError(
                f"precision must be one of {', '.join(_DTYPES)} or None, got {self.precision!r}. For eight bits, give "
                "a teacher that a library such as torchao has quantized"
            )

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module to run: a copy where its weights change, so that the user's own keeps its precision."""
        if self.precision is not None:
            module = copy.deepcopy(module).to(_DTYPES[self.precision])
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        if not self.compile:
            return module
        compiled: nn.Module = torch.compile(module)  # type: ignore[assignment]  # a module stays one
        return compiled

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call`` with inputs as the teacher takes them, and outputs as methods expect them."""
        if self.precision is None and not self.channels_last:
            return call

        def run(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = apply_to_collection((args, kwargs), Tensor, self._give)
            return apply_to_collection(call(*args, **kwargs), Tensor, self.restore)

        return run

    def restore(self, value: Tensor) -> Tensor:
        """What the teacher computed, in float32 where it computed in half precision."""
        reduced = self.precision is not None and value.dtype == _DTYPES[self.precision]
        return value.float() if reduced else value

    def _give(self, value: Tensor) -> Tensor:
        if self.channels_last and value.dim() == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        if self.precision is not None and value.is_floating_point():
            value = value.to(_DTYPES[self.precision])
        return value
