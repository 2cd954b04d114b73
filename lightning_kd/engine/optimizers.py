"""Bring the methods' parameters and the peers into the student's own optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

_PARTITIONING = {"ZeroRedundancyOptimizer", "DeepSpeedZeroOptimizer", "DeepSpeedCPUAdam"}
_PER_GROUP_LISTS = ("base_lrs", "max_lrs", "min_lrs", "_last_lr")
_PER_GROUP_COPIES = ("lr_lambdas", "base_momentums", "max_momentums")
_LEARNING_RATES = ("lr", "initial_lr", "max_lr", "min_lr")

Group = dict[str, Any]


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
    if missing:
        _, group = _home(optimizers, network)
        group["params"].extend(missing)


def add_peer_group(
    configured: Any,
    peers: Sequence[nn.Module],
    network: nn.Module,
    lr: float | None = None,
    weight_decay: float | None = None,
) -> None:
    """Give the peers a parameter group of their own in the student's optimizer.

    The group copies the settings of the student's; with ``lr`` every learning rate in it, and in the schedulers that
    were already built, is scaled by the same factor.

    Args:
        configured: what ``configure_optimizers`` returned.
        peers: the peers that bring no optimizer.
        network: the student's network.
        lr: the peers' initial learning rate; the student's by default.
        weight_decay: the peers' weight decay; the student's by default.

    Raises:
        RuntimeError: if there is no optimizer, or it partitions its parameters when it is built.
    """
    parameters = [parameter for peer in peers for parameter in peer.parameters() if parameter.requires_grad]
    if not parameters:
        return
    drop_parameters(configured, peers)
    optimizer, home = _home(optimizers_in(configured), network)
    initial: float = home["initial_lr"] if "initial_lr" in home else home["lr"]
    factor = 1.0 if lr is None else lr / initial
    new = {key: value for key, value in home.items() if key != "params"}
    for key in _LEARNING_RATES:
        if isinstance(new.get(key), float | int):
            new[key] = new[key] * factor
    if weight_decay is not None:
        new["weight_decay"] = weight_decay
    position = next(index for index, group in enumerate(optimizer.param_groups) if group is home)
    optimizer.add_param_group({**new, "params": parameters})
    for scheduler in _schedulers_of(configured, optimizer):
        _extend(scheduler, position, factor)


def drop_parameters(configured: Any, modules: Sequence[nn.Module]) -> None:
    """Take the parameters of ``modules`` out of every group (a student's ``self.parameters()`` includes its peers)."""
    ours = {id(parameter) for module in modules for parameter in module.parameters()}
    for optimizer in optimizers_in(configured):
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ours]


def _home(optimizers: list[Optimizer], network: nn.Module) -> tuple[Optimizer, Group]:
    """The optimizer and the group that hold most of the network."""
    if not optimizers:
        raise RuntimeError(
            "a distillation method has trainable parameters, but configure_optimizers returned no optimizer; return "
            "one, or use methods without connectors or peers"
        )
    for optimizer in optimizers:
        if type(optimizer).__name__ in _PARTITIONING:
            raise RuntimeError(
                f"{type(optimizer).__name__} partitions its parameters when it is built, so connectors cannot be added "
                "afterwards; build it over `self.parameters()` (which includes them) or use another optimizer"
            )
    ours = {id(parameter) for parameter in network.parameters()}
    pairs = [(optimizer, group) for optimizer in optimizers for group in optimizer.param_groups]
    return max(pairs, key=lambda pair: sum(id(parameter) in ours for parameter in pair[1]["params"]))


def _schedulers_of(configured: Any, optimizer: Optimizer) -> list[Any]:
    """Every scheduler of ``optimizer`` in what ``configure_optimizers`` returned, nested ones included."""
    found: list[Any] = []
    stack = [configured]
    while stack:
        item = stack.pop()
        if isinstance(item, Optimizer | str) or item is None:
            continue
        if isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, Sequence):
            stack.extend(item)
        elif getattr(item, "optimizer", None) is optimizer and hasattr(item, "step"):
            found.append(item)
            stack.extend(getattr(item, "_schedulers", []))
        elif hasattr(item, "scheduler"):
            stack.append(item.scheduler)
    return found


def _extend(scheduler: Any, position: int, factor: float) -> None:
    for name in _PER_GROUP_LISTS:
        values = getattr(scheduler, name, None)
        if isinstance(values, list) and len(values) > position:
            values.append(values[position] * factor)
    for name in _PER_GROUP_COPIES:
        values = getattr(scheduler, name, None)
        if isinstance(values, list) and len(values) > position:
            values.append(values[position])
