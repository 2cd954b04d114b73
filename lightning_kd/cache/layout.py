"""The bytes of one entry: named tensors of fixed shape and type, one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_kd.cache.errors import TeacherCacheError

_ALIGNMENT = 8


@dataclass(frozen=True)
class Field:
    """One tensor of every entry.

    Attributes:
        name: what it is, such as ``"logits"``.
        shape: without the batch.
        stored: type on disk.
        given: type it had, and gets back.
    """

    name: str
    shape: tuple[int, ...]
    stored: torch.dtype
    given: torch.dtype

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return math.prod(self.shape) * self.stored.itemsize

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        stored, given = (str(dtype).removeprefix("torch.") for dtype in (self.stored, self.given))
        return {"name": self.name, "shape": list(self.shape), "stored": stored, "given": given}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Field:
        """From plain data."""
        stored, given = (_dtype(data[key]) for key in ("stored", "given"))
        return cls(str(data["name"]), tuple(map(int, data["shape"])), stored, given)


class Layout:
    """Where each field lies in an entry.

    Args:
        fields: the fields, in order.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self._starts: list[int] = []
        end = 0
        for field in self.fields:
            self._starts.append(end)
            end += -(-field.size // _ALIGNMENT) * _ALIGNMENT
        self.size = end
        """Bytes of an entry."""

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Entries of a batch, ``(B, size)`` bytes on the host.

        Args:
            tensors: field name → ``(B, *shape)``.

        Raises:
            TeacherCacheError: if a tensor has another shape than the field, or values that do not fit into its type.
        """
        count = len(next(iter(tensors.values())))
        rows = torch.zeros(count, self.size, dtype=torch.uint8)
        for field, start in zip(self.fields, self._starts, strict=True):
            tensor = tensors[field.name].detach().to("cpu")
            if tensor.shape[1:] != field.shape:
                raise TeacherCacheError(
                    f"the teacher's {field.name} have shape {tuple(tensor.shape[1:])} a sample, but this cache began "
                    f"with {field.shape}; entries have a fixed size, so let all samples give the same shape (pad to "
                    "one length, or resize to one size)"
                )
            stored = tensor.to(field.stored).contiguous()
            if field.stored.is_floating_point and not torch.equal(stored.isfinite(), tensor.isfinite()):
                raise TeacherCacheError(
                    f"the teacher's {field.name} reach {tensor.abs().amax():.3g}, which {field.stored} cannot hold; "
                    'use TeacherCache(..., dtype="bfloat16") or dtype="float32"'
                )
            if field.size:
                rows[:, start : start + field.size] = stored.reshape(count, -1).view(torch.uint8)
        return rows

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """The tensors of packed entries, in the types on disk.

        Args:
            rows: ``(B, size)`` bytes.
        """
        tensors = {}
        for field, start in zip(self.fields, self._starts, strict=True):
            part = rows[:, start : start + field.size].contiguous()
            tensors[field.name] = part.view(field.stored).reshape(len(rows), *field.shape)
        return tensors


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise TeacherCacheError(f"unknown type {name!r} in the cache's meta.json; delete the directory")
    return found
