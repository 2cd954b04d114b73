"""From what a teacher says to what is kept of it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.layout import Field
from lightning_kd.engine.exchange import View
from lightning_kd.engine.top import TopK, top_of

_FEATURE = "features/"


@dataclass(frozen=True)
class Selection:
    """What is kept of a teacher's view.

    Attributes:
        dtype: type of floating-point numbers on disk.
        logits: whether logits are kept.
        top_k: how many classes are kept in place of all logits, or ``None``.
        taps: the layers that are kept.
    """

    dtype: torch.dtype
    logits: bool
    top_k: int | None
    taps: tuple[str, ...]

    def tensors(self, view: View) -> dict[str, Tensor]:
        """What to keep, by name, each ``(B, ...)``."""
        kept: dict[str, Tensor] = {}
        if self.logits and self.top_k is not None:
            top = top_of(view.logits, self.top_k)
            kept = {
                "indices": top.indices.int(),
                "log_probabilities": top.log_probabilities,
                # in full: half precision would lose the small masses that it is kept for
                "log_tail": top.log_tail.float().clamp_min(torch.finfo(torch.float32).min),
            }
        elif self.logits:
            kept["logits"] = view.logits
        kept.update({f"{_FEATURE}{tap}": view.feature(tap) for tap in self.taps})
        return kept

    def fields(self, tensors: Mapping[str, Tensor]) -> list[Field]:
        """How to keep them."""
        return [
            Field(name, tuple(tensor.shape[1:]), self._stored(name, tensor), tensor.dtype)
            for name, tensor in tensors.items()
        ]

    def _stored(self, name: str, tensor: Tensor) -> torch.dtype:
        return self.dtype if tensor.is_floating_point() and name != "log_tail" else tensor.dtype

    def view(self, tensors: Mapping[str, Tensor], fields: Mapping[str, Field], device: torch.device) -> CachedView:
        """The view that a method sees.

        Args:
            tensors: as they were on disk.
            fields: how they were kept.
            device: where they are wanted.
        """
        moved = {name: _to(tensor, device).to(fields[name].given) for name, tensor in tensors.items()}
        features = {name.removeprefix(_FEATURE): moved[name] for name in moved if name.startswith(_FEATURE)}
        if not self.logits or self.top_k is None:
            return CachedView(features, logits=moved.get("logits"))
        tail = moved["log_tail"]
        tail = torch.where(tail <= torch.finfo(torch.float32).min, -torch.inf, tail)
        log_probabilities = moved["log_probabilities"]
        if self.dtype.itemsize < 4:
            # rounded, they do not add up to one any more
            total = torch.cat([log_probabilities, tail.to(log_probabilities.dtype).unsqueeze(-1)], -1).logsumexp(-1)
            log_probabilities, tail = log_probabilities - total.unsqueeze(-1), tail - total
        return CachedView(features, top=TopK(moved["indices"].long(), log_probabilities, tail))


class CachedView(View):
    """What was kept of a teacher's view.

    Args:
        features: tap name → tensor.
        logits: all logits, if they were kept.
        top: the likeliest classes, if only those were kept.
    """

    def __init__(self, features: Mapping[str, Tensor], logits: Tensor | None = None, top: TopK | None = None) -> None:
        self.features = dict(features)
        self._logits, self._top = logits, top
        self.partial = top is not None

    @property
    def output(self) -> Any:
        """The logits: nothing else of the output is kept.

        Raises:
            TeacherCacheError: if they were not kept.
        """
        return self.logits

    @property
    def logits(self) -> Tensor:
        """The logits.

        Raises:
            TeacherCacheError: if they were not kept, or not all of them.
        """
        if self._logits is not None:
            return self._logits
        if self._top is not None:
            raise TeacherCacheError(
                f"TeacherCache(top_k={self._top.indices.shape[-1]}) keeps the likeliest classes only, but a method "
                "asks for all logits; use a method that reads the top classes, such as TopKKD, or leave out `top_k=`"
            )
        raise TeacherCacheError("no method said that it needs the teacher's logits, so they were not kept")

    def top(self, k: int) -> TopK:
        """The likeliest classes.

        Raises:
            TeacherCacheError: if fewer were kept.
        """
        if self._top is None:
            return super().top(k)
        kept = self._top.indices.shape[-1]
        if k > kept:
            raise TeacherCacheError(
                f"a method asks for the {k} likeliest classes, but TeacherCache(top_k={kept}) keeps {kept}; raise top_k"
            )
        return self._top.narrowed(k)

    def __repr__(self) -> str:
        return f"CachedView(features={sorted(self.features)}, logits={self._logits is not None})"


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
