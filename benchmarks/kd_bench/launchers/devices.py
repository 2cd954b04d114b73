"""The GPUs of this machine, shared out among worker processes."""

from __future__ import annotations

import os

import torch

from kd_bench.protocol import Protocol

VISIBLE = "CUDA_VISIBLE_DEVICES"


def uses_gpus(protocol: Protocol) -> bool:
    """Whether the items of a protocol are trained on GPUs where there are some."""
    return (protocol.trainer.accelerator or protocol.accelerator) != "cpu"


def gpu_shares(protocol: Protocol) -> list[str]:
    """Values of ``CUDA_VISIBLE_DEVICES`` with which processes do not get into each other's way.

    Args:
        protocol: says how many devices an item takes.

    Returns:
        One a process; none if the protocol is for CPUs or there are not enough GPUs for one item.
    """
    if not uses_gpus(protocol):
        return []
    gpus, size = _visible_gpus(), protocol.trainer.devices
    return [",".join(gpus[first : first + size]) for first in range(0, len(gpus) - size + 1, size)]


def _visible_gpus() -> list[str]:
    names = os.environ.get(VISIBLE)
    if names is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    # numbers or unique names; PyTorch stops at the first that does not exist
    return [name.strip() for name in names.split(",")][: torch.cuda.device_count()]
