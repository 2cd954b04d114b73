"""Shard the methods' connectors like the student, under FSDP2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor

try:
    from lightning.pytorch.strategies import ModelParallelStrategy
except ImportError:  # Lightning without FSDP2
    ModelParallelStrategy = None  # type: ignore[assignment,misc]  # a class where it exists


def shard_like(strategy: Any, methods: Sequence[nn.Module]) -> None:
    """Apply ``fully_shard`` to methods with parameters where the strategy leaves sharding to ``configure_model``.

    Nothing else synchronises their gradients there: ranks would silently drift apart.
    """
    if ModelParallelStrategy is None or not isinstance(strategy, ModelParallelStrategy):
        return
    from torch.distributed.fsdp import fully_shard

    mesh = strategy.device_mesh["data_parallel"]
    if mesh.size() == 1:
        return
    for method in methods:
        parameters = list(method.parameters())
        if parameters and not any(isinstance(parameter, DTensor) for parameter in parameters):
            fully_shard(method, mesh=mesh)
