"""Collect a batch from all ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def gather_batch(tensor: Tensor) -> Tensor:
    """Concatenate ``tensor`` of all ranks along the batch dimension, without gradients.

    Ranks must hold equally many samples, which Lightning's distributed samplers see to. Without distributed training
    it is the tensor itself.

    Args:
        tensor: ``(B, ...)``.

    Returns:
        ``(world_size * B, ...)``, the same on every rank.
    """
    tensor = tensor.detach()
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return tensor
    tensor = tensor.contiguous()
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.cat(parts)
