"""Bring the methods' parameters into the student's own optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

_PARTITIONING = {"ZeroRedundancyOptimizer", "DeepSpeedZeroOptimizer", "DeepSpeedCPUAdam"}


def optimizers_in(configured: Any) -> list[Optimizer]:
    """The optimizers in what ``configure_optimizers`` returned, in order."""
    optimizer = getattr(configured, "optimizer", None)
    if isinstance(configured, Optimizer):
        return [configured]
    if isinstance(configured, Mapping):
        return optimizers_in(configured.get("optimizer"))
    if isinstance(optimizer, Optimizer):
        return [optimizer]
    if isinstance(configured, Sequence):
        return [found for item in configured for found in optimizers_in(item)]
    return []


def add_parameters(configured: Any, parameters: Iterable[nn.Parameter], network: nn.Module) -> None:
    """Append parameters that no optimizer holds yet to the group that holds the network's.

    An existing group is extended rather than a new one added: schedulers such as OneCycleLR keep values per group and
    were already built.

    Args:
        configured: what ``configure_optimizers`` returned.
        parameters: the methods' parameters.
        network: the student's network.

    Raises:
        RuntimeError: if there is no optimizer, or it partitions its parameters when it is built.
    """
    optimizers = optimizers_in(configured)
    owned = {
        id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    }
    missing = [parameter for parameter in parameters if parameter.requires_grad and id(parameter) not in owned]
    if not missing:
        return
    if not optimizers:
        raise RuntimeError(
            "a distillation method has trainable parameters, but configure_optimizers returned no optimizer; return "
            "one, or use methods without connectors"
        )
    group = _group_of(network, optimizers)
    for optimizer in optimizers:
        if type(optimizer).__name__ in _PARTITIONING:
            raise RuntimeError(
                f"{type(optimizer).__name__} partitions its parameters when it is built, so connectors cannot be added "
                "afterwards; build it over `self.parameters()` (which includes them) or use another optimizer"
            )
    group["params"].extend(missing)


def _group_of(network: nn.Module, optimizers: list[Optimizer]) -> dict[str, Any]:
    ours = {id(parameter) for parameter in network.parameters()}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return max(groups, key=lambda group: sum(id(parameter) in ours for parameter in group["params"]))
