"""Checksums of what a teacher is given, sample by sample: an entry is for one input only."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def input_checksums(args: tuple[Any, ...], kwargs: Mapping[str, Any], count: int) -> list[int]:
    """One checksum a sample.

    Args:
        args: positional arguments of the network.
        kwargs: its keyword arguments.
        count: number of samples; tensors with as many rows are taken row by row, everything else counts for all.
    """
    checksums = [0] * count
    for value in _leaves((args, dict(sorted(kwargs.items())))):
        if isinstance(value, Tensor) and value.dim() and len(value) == count:
            content = _bytes_of(value.reshape(count, -1))
            size = len(content) // max(count, 1)
            parts = [content[row * size : (row + 1) * size] for row in range(count)]
        else:
            whole = _bytes_of(value) if isinstance(value, Tensor) else memoryview(repr(value).encode())
            parts = [whole] * count
        checksums = [zlib.crc32(part, checksum) for part, checksum in zip(parts, checksums, strict=True)]
    return checksums


def batch_size(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Rows of the first tensor that the network is given; 0 where there is none."""
    tensors = (value for value in _leaves((args, dict(kwargs))) if isinstance(value, Tensor) and value.dim())
    return next((len(tensor) for tensor in tensors), 0)


def device_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device:
    """Where the network's first tensor is."""
    tensors = (value for value in _leaves((args, dict(kwargs))) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, Tensor | str | int | float | type(None)):
        yield value


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data).cast("B")
