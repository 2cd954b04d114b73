"""Make all ranks agree on a trained network."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def same_buffers(network: nn.Module) -> None:
    """Give all ranks the buffers of the first one: each has its own running statistics until the next forward pass."""
    for buffer in network.buffers():
        dist.broadcast(buffer, src=0)


def gather(network: nn.Module) -> dict[str, Tensor]:
    """The state of a sharded network, whole, on every rank."""
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach()
        for name, value in network.state_dict().items()
    }
